"""The First Order Motion Model: its networks and training losses, and rendering with a trained model."""
