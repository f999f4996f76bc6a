"""The relay's race, planner and state machines, unmodified, on a simulated clock.

`data` reads the published latencies, `world` draws what every arm meets, `arms` runs the relay over
it, `figures` reduces what came of it, `report` compares it with what the relay promises.
"""
