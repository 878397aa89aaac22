"""From a network to descriptors (`embedding`), from descriptors to reports (`search`) by the rules of `protocols`.

Left of the descriptors live torch and networks; right of them everything works on arrays, from a saved file.
"""
