"""Between a supervisor and its workers: one private socket each, and what is said over it.

It is a socket pair, made before the worker and inherited by it: no port, no path, nobody else can
connect. The worker tells how it is (`link`), the supervisor listens (`post`), asks for what the
admin listener shows (`aggregate`) and replaces who is silent for too long (`watch`).
"""
