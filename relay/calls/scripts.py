"""The calls that the bench plays over and over.

Speech is some 15 characters a second. An interim transcript that is what the caller said in the end
makes its speculation a good one; any other is given up.
"""

from __future__ import annotations

from typing import Final

from relay.calls.script import Call, Interim, Tool, Turn

SUPPORT: Final = Call(
    "support",
    (
        Turn(
            "My router shows a red light since this morning.",
            speech_ms=1800,
            answer="I am sorry to hear that. Please unplug it, count to ten, and plug it in again."
            " Tell me when the second light turns green.",
        ),
        Turn(
            "I have done that, and it is still red.",
            speech_ms=1300,
            answer="Thank you for trying. A red light means that it finds no line. Is the grey"
            " cable in the socket that is marked with a telephone?",
            noise_after_chars=18,
        ),
        Turn(
            "Yes, it is.",
            speech_ms=600,
            answer="Then the fault is likely on our side. I can see work in your street until noon."
            " Shall I send you a message when it is over?",
            is_brown_out=True,
        ),
        Turn(
            "Yes please, to this number.",
            speech_ms=1000,
            answer="I have put that down. You will hear from us at noon at the latest.",
        ),
    ),
)

BOOKING: Final = Call(
    "booking",
    (
        Turn(
            "Good morning, I would like a table for four.",
            speech_ms=1600,
            answer="With pleasure. For which day would you like it, and at what time?",
        ),
        Turn(
            "On Friday, at seven in the evening.",
            speech_ms=1200,
            answer="At seven there is one left by the window. Shall I put your name down for it?",
            interims=(Interim(1350, "On Friday, at seven in the evening."),),
            tool=Tool("find_table", 250, '{"free": ["window"]}'),
        ),
        Turn(
            "Yes, the name is Amara.",
            speech_ms=900,
            answer="The table by the window is yours, Friday at seven, for four. Anything else?",
            tool=Tool("book_table", 350, '{"booked": true}'),
            is_brown_out=True,
        ),
        Turn(
            "No, that is all.",
            speech_ms=700,
            answer="Then we look forward to seeing you. Have a good day!",
            interims=(Interim(820, "No, that is all."),),
        ),
    ),
)

_LONG: Final = (
    "There are several ways to get there, so let me take you through all of them. The first "
    "is the train, which leaves from platform four every half hour and takes about fifty "
    "minutes with one change on the way. The second is the coach, which is slower and "
    "cheaper, and stops in nearly every village between here and the coast. The third is to "
    "drive, which I would not do on a Friday, since the bridge is closed to all but buses "
    "until the end of the month. And then there is the boat, which runs only in the summer "
    "and only when the sea is calm, but it is by far the most beautiful of the four, and dogs "
    "travel free."
)

IMPATIENT: Final = Call(
    "impatient",
    (
        Turn(
            "How do I get to the coast?",
            speech_ms=1000,
            answer=_LONG,
            barge_in_after_chars=20,
        ),
        Turn(
            "No, just the fastest way.",
            speech_ms=900,
            answer=_LONG,
            barge_in_after_ms=60,
        ),
        Turn(
            "I mean by train.",
            speech_ms=700,
            answer=_LONG,
            barge_in_after_chars=26,
        ),
        Turn(
            "When does the next one leave?",
            speech_ms=1000,
            answer="The next train leaves at ten past nine from platform four.",
        ),
    ),
)

SPECULATIVE: Final = Call(
    "speculative",
    (
        Turn(
            "Can you move my appointment to Thursday?",
            speech_ms=1400,
            answer="Of course. On Thursday there is a quarter past ten, or half past two.",
            interims=(
                Interim(700, "Can you move my appointment?"),
                Interim(1500, "Can you move my appointment to Thursday?"),
            ),
        ),
        Turn(
            "The earlier one, or no, rather the one after lunch.",
            speech_ms=2100,
            answer="Half past two on Thursday it is. Shall I remind you the day before?",
            interims=(
                Interim(800, "The earlier one."),
                Interim(1300, "The earlier one, or no."),
                Interim(2200, "The earlier one, or no, rather the one after lunch."),
            ),
        ),
        Turn(
            "Yes, by mail, please.",
            speech_ms=900,
            answer="A mail will come on Wednesday morning. Is there anything else?",
            interims=(Interim(600, "Yes, by mail."),),
        ),
        Turn(
            "Thank you, goodbye.",
            speech_ms=800,
            answer="Thank you for calling. Goodbye!",
            interims=(Interim(900, "Thank you, goodbye."),),
        ),
    ),
)

CALLS: Final = (SUPPORT, BOOKING, IMPATIENT, SPECULATIVE)
