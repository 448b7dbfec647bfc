"""The First Order Motion Model: its networks, its training losses, and what is rendered with a trained one."""
