"""The course: chapters, exercises, widgets and the site they make."""
