"""Video and image files in and out, panels of results, and the HTML player."""
