"""The course: chapters, exercises, widgets and the site they make."""

STILL = "This figure is live"
"""How the line begins that stands where a widget would be, in a notebook without a kernel."""
CHOICE = "○ "
"""How each answer begins that can be chosen, where there are no buttons."""
