"""The course: chapters, exercises, widgets and the site they make."""

STILL = "This figure is live"
"""Beginning of the line that replaces a widget in a notebook without a kernel."""
STYLE = """<style>
[data-jp-theme-light="false"] :is(.js-plotly-plot, .plot-img)
  { filter: invert(0.92) hue-rotate(180deg) brightness(1.2) }
[data-jp-theme-light="false"] :is(
  .imagelayer image, .heatmaplayer > *, .js-plotly-plot:has(.heatmaplayer image) .cbfills)
  { filter: brightness(0.8) invert(1) hue-rotate(180deg) }
.js-plotly-plot .svg-container { content-visibility: auto }
</style>"""
"""In a dark theme figures are dark as well, except for the photographs and heat maps in them. Figures out of sight are
not drawn: a page of many would otherwise slow each frame of a drag."""
CHOICE = "○ "
"""Beginning of each answer that can be chosen, where there are no buttons."""
