"""Model names and the control endpoint: who behaves how."""

from __future__ import annotations

import random

import pytest

from relay.emulator.distributions import Fixed, Uniform
from relay.emulator.script import PRESETS, Behaviour, Script, ScriptError
from tests.emulator.calls import USER, chat, chat_text, plain_client, post
from tests.fakes.emulator_process import EmulatorProcess

PATH = "/v1/chat/completions"


class TestNames:
    def test_parameters(self) -> None:
        behaviour = Script().behaviour_for(
            "emu:ttft=200,itl=10..20,tokens=40,tools=2,fault=reset@5,seed=7,stamp=1"
        )
        assert isinstance(behaviour.ttft, Fixed)
        assert behaviour.ttft.value_ms == 200
        assert isinstance(behaviour.itl, Uniform)
        assert (behaviour.tokens, behaviour.tools, behaviour.seed) == (40, 2, 7)
        assert behaviour.stamp
        assert behaviour.fault is not None
        assert (behaviour.fault.name, behaviour.fault.at) == ("reset", 5)

    @pytest.mark.parametrize("preset", PRESETS)
    def test_presets_can_be_read_and_extended(self, preset: str) -> None:
        assert Script().behaviour_for(f"{preset}:tokens=3").tokens == 3

    def test_foreign_names_behave_like_emu(self) -> None:
        script = Script()
        assert script.behaviour_for("gpt-4o") == Behaviour(
            ttft=script.behaviour_for("gpt-4o").ttft, itl=script.behaviour_for("gpt-4o").itl
        )
        script.behaviour_for("llama3:8b")  # a colon without parameters is part of a name

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("emu:colour=red", "unknown parameter 'colour'"),
            ("emu:ttft=soon", "ttft=soon"),
            ("emu:fault=none", "unknown fault"),
            ("emu:tokens=1,itl", "not key=value"),
            ("emu:finish=never", "finish=never"),
            ("emu:split=half", "split=half"),
        ],
    )
    def test_errors_name_the_parameter(self, name: str, message: str) -> None:
        with pytest.raises(ScriptError, match=message):
            Script().behaviour_for(name)

    @pytest.mark.parametrize(
        "value", ["replay=/etc/hostname", "ttft=csv:../x.csv:a", "replay=a/../b"]
    )
    def test_files_stay_in_their_folders_unless_on_loopback(self, value: str) -> None:
        with pytest.raises(ScriptError, match="data folders"):
            Script(any_file=False).behaviour_for(f"emu:{value}")
        assert isinstance(Script(any_file=False).behaviour_for("emu:ttft=1..2").ttft, Uniform)


class TestOrder:
    def test_queue_then_model_then_name(self) -> None:
        script = Script()
        slow, failing = script.parse("emu-slow"), script.parse("fault=hang")
        script.set_model("m", slow)
        script.push_next("m", failing, 2)
        assert [script.behaviour_for("m") for _ in range(3)] == [failing, failing, slow]
        script.reset()
        assert script.behaviour_for("m") not in (failing, slow)

    def test_some_prompts_then_model(self) -> None:
        script = Script()
        slow, ill, hanging = (script.parse(each) for each in ("emu-slow", "ttft=9", "fault=hang"))
        script.set_model("m", slow)
        script.set_prompt("m", "ill", ill)
        assert script.behaviour_for("m", "I am ill today") is ill
        assert script.behaviour_for("m", "I am well") is slow
        assert script.behaviour_for("other", "I am ill today") is not ill
        script.set_prompt("m", "ill", hanging)
        assert script.behaviour_for("m", "I am ill today") is hanging
        script.push_next("m", slow, 1)
        assert script.behaviour_for("m", "I am ill today") is slow
        script.reset()
        assert script.behaviour_for("m", "I am ill today") not in (slow, ill, hanging)

    def test_star_catches_any_model(self) -> None:
        script = Script()
        failing = script.parse({"fault": "status:503"})
        script.push_next("*", failing, 1)
        assert script.behaviour_for("a") is failing
        assert script.behaviour_for("a") is not failing

    def test_parameters_over_a_scripted_model(self) -> None:
        script = Script()
        script.set_model("house", script.parse("ttft=9,tokens=4"))
        behaviour = script.behaviour_for("house:tokens=5")
        assert behaviour.tokens == 5
        assert isinstance(behaviour.ttft, Fixed)
        assert behaviour.ttft.value_ms == 9

    def test_object_form_keeps_plus_and_commas(self) -> None:
        behaviour = Script().parse({"preset": "emu-fast", "text": "one, two + three"})
        assert behaviour.text == "one, two + three"

    def test_draws_depend_on_seed_model_and_number_only(self) -> None:
        def values(script: Script) -> list[float]:
            behaviour = script.behaviour_for("emu:ttft=0..1000,seed=5")
            found = []
            for _ in range(3):
                rng, index = script.next_draw("m", behaviour)
                assert isinstance(rng, random.Random)
                found.append(behaviour.ttft.draw_ms(rng, index))
            return found

        first = values(Script())
        assert values(Script()) == first
        assert len(set(first)) == 3


@pytest.mark.sockets
class TestEndpoint:
    def test_model_for_good(self, emulator: EmulatorProcess) -> None:
        emulator.script("script-a", {"ttft": 1, "itl": 0, "text": "Hello there."})
        for _ in range(2):
            assert chat_text(post(emulator, PATH, chat("script-a")).content) == "Hello there."

    def test_next_requests(self, emulator: EmulatorProcess) -> None:
        emulator.script("script-b", "ttft=1,fault=status:503", next_requests=2)
        statuses = [post(emulator, PATH, chat("script-b")).status_code for _ in range(3)]
        assert statuses == [503, 503, 200]

    def test_some_prompts(self, emulator: EmulatorProcess) -> None:
        text = {"ttft": 1, "itl": 0, "text": "Hello there."}
        order = {"model": "script-c", "match": "prompt", "prompt": USER[5:15], "behaviour": text}
        post(emulator, "/emulator/script", order)
        assert chat_text(post(emulator, PATH, chat("script-c")).content) == "Hello there."
        other = chat("script-c", messages=[{"role": "user", "content": "Something else"}])
        assert chat_text(post(emulator, PATH, other).content) != "Hello there."

    @pytest.mark.parametrize(
        "order",
        [
            b"no json",
            b"[]",
            b'{"model": 3}',
            b'{"model": "x", "behaviour": 7}',
            b'{"model": "x", "behaviour": {"colour": 1}}',
            b'{"model": "x", "match": "next", "count": 0}',
            b'{"model": "x", "match": "prompt"}',
            b'{"model": "x", "match": "prompt", "prompt": ""}',
        ],
    )
    def test_bad_orders(self, emulator: EmulatorProcess, order: bytes) -> None:
        with plain_client() as client:
            answer = client.post(f"{emulator.base_url_plain}/emulator/script", content=order)
        assert answer.status_code == 400
        assert answer.json()["error"]

    def test_probability_is_seeded(self, emulator: EmulatorProcess) -> None:
        model = "emu:ttft=1,itl=0,tokens=1,fault=status:500,p=0.5,seed=3"
        statuses = [post(emulator, PATH, chat(model)).status_code for _ in range(20)]
        assert 4 <= statuses.count(500) <= 16

    def test_faults_are_listed(self, emulator: EmulatorProcess) -> None:
        with plain_client() as client:
            table = client.get(f"{emulator.base_url_plain}/emulator/faults").json()
        assert table["hang"]["row"] == "U10"
