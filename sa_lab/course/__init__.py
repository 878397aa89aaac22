"""The course: chapters, exercises, widgets and the site they make."""

STILL = "This figure is live"
"""Beginning of the line that replaces a widget in a notebook without a kernel."""
CHOICE = "○ "
"""Beginning of each answer that can be chosen, where there are no buttons."""
