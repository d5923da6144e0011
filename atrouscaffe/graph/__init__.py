"""The graph of layers: order, phases, shapes, memory, and what inspect prints."""
