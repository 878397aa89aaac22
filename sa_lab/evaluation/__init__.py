"""From a network to descriptors (`embedding`), from descriptors to reports (`search`) by rules (`protocols`)."""
