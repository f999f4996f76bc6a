"""A relay under everything at once, for as long as one likes.

    make soak                                   # two minutes, as CI runs it
    make soak ARGS="--minutes 120 --report soak-report"

Two workers in front of an emulator; callers over every door, of whom a fifth leave in mid-answer
and some vanish or stop reading; one request in twenty meets a provider's fault. Meanwhile providers
have brown-outs, the file is read anew, workers are killed. At intervals the callers pause, and what
is left then is looked at: tasks, descriptors, memory, open rows. At the end the relay is told to
stop under load.

`scene.py` starts it all, `callers.py` asks and judges each answer, `events.py` breaks things,
`samples.py` looks, `verdict.py` says what holds, `report.py` draws it.
"""
