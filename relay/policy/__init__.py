"""What a request may become before it is raced: rules, cascades, panels, experiments.

Pure: it knows protocols (`base.py`), and neither providers nor transports. `relay/course.py` calls
it, `relay/leg.py` runs what it starts.
"""
