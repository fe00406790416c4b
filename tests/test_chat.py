"""Conversations: the forms of records, their text, and which of it is learned."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from morphogen.core.errors import DataError
from morphogen.modalities.text.chat import (
    CHATML,
    Conversation,
    Message,
    Template,
    conversation_of,
    form_of,
)
from morphogen.modalities.text.chat.template import Renderer

ASKED = Conversation((Message("user", "Is it?"), Message("assistant", "It is.")))
CALL = {"name": "add", "arguments": {"a": 1}}
TWICE = Conversation(
    (
        Message("system", "Be brief."),
        Message("user", "one"),
        Message("assistant", "1"),
        Message("user", "two"),
        Message("assistant", " 2 "),
    )
)
# As published models have them: a start token, marks of what is trained, a role that is refused,
# and turns that are written otherwise once others follow.
BRACKETS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('no system') }}{% endif %}{{ '[' ~ m.role ~ '] ' }}"
    "{%- generation -%}{{ m.content | trim }}</s>{%- endgeneration -%}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
FORGETS = (
    "{% for m in messages %}{{ m.role }}: "
    "{{ m.content if loop.last or m.role == 'user' else '-' }};{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"messages": '[{"role": "user", "content": [{"type": "text", "text": "q"}]},'
         ' {"role": "model", "content": "a"}]'},
        {"prompt": "q", "completion": "a"},
        {"prompt": [{"role": "user", "content": "q"}],
         "completion": [{"role": "assistant", "content": "a"}]},
        {"Instruction": "q", "input": "", "output": "a"},
        {"question": "q", "answer": "a", "id": 7},
    ],
)  # fmt: skip
def test_every_form_gives_the_same_conversation(row: dict[str, Any]) -> None:
    assert conversation_of(row) == Conversation((Message("user", "q"), Message("assistant", "a")))


def test_what_an_instruction_is_about_and_a_system_text() -> None:
    found = conversation_of({"instruction": "q", "input": "i", "output": "a", "system": "s"})
    assert [m.content for m in found.messages] == ["s", "q\n\ni", "a"]


def test_calls_of_functions() -> None:
    told = [
        {"from": "human", "value": "1 + 1?"},
        {"from": "function_call", "value": json.dumps(CALL)},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "Two."},
    ]
    found = conversation_of({"conversations": told, "tools": '[{"name": "add"}]'})
    assert [m.role for m in found.messages] == ["user", "assistant", "tool", "assistant"]
    assert found.messages[1].calls == (CALL,)
    assert found.tools == ({"name": "add"},)
    openai = {"role": "assistant", "content": None, "tool_calls": [
        {"id": "1", "type": "function",
         "function": {"name": "add", "arguments": json.dumps(CALL["arguments"])}}]}  # fmt: skip
    both = [{"role": "user", "content": "1 + 1?"}, openai]
    assert conversation_of({"messages": both}).messages[1].calls == (CALL,)
    learned = [piece.text for piece in Template().pieces(found) if piece.learned]
    assert learned[0].endswith(f"<tool_call>{json.dumps(CALL)}</tool_call><|im_end|>")
    assert '{"name": "add"}' in Template().render(found)


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        ("user", "nobody answers"),
        ("", "nobody answers"),
        ("assistant user", "begins with the assistant"),
        ("user system assistant", "after the first message"),
        ("user user assistant", "twice in a row"),
        ("user assistant assistant", "twice in a row"),
        ("user tool assistant", "nobody called"),
        ("user wizard assistant", "no role that is known"),
    ],
)
def test_rows_that_teach_no_answer(roles: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        conversation_of({"messages": [{"role": r, "content": "x"} for r in roles.split()]})


def test_an_empty_answer_and_a_row_of_something_else() -> None:
    with pytest.raises(DataError, match="every answer is empty"):
        conversation_of({"prompt": "q", "completion": " "})
    with pytest.raises(DataError, match="no conversation"):
        conversation_of({"text": "q"})
    assert form_of(["id", "text", "output"]) == ()


@pytest.mark.parametrize("template", [Template(), Template(BRACKETS, {"bos_token": "<s>"})])
def test_pieces_are_the_text_cut_at_answers(template: Template) -> None:
    talk = Conversation(TWICE.messages[1:])
    pieces = template.pieces(talk)
    assert template.render(talk).startswith("".join(piece.text for piece in pieces))
    end = "<|im_end|>" if template.source == CHATML else "</s>"
    answers = [piece.text for piece in pieces if piece.learned]
    assert ["".join(each.split()) for each in answers] == [f"1{end}", f"2{end}"]
    assert all(answer.endswith(end) for answer in answers)  # it learns to stop
    assert pieces[-1].learned
    prompt = Conversation(talk.messages[:1])  # what is seen before an answer when it is drawn
    assert template.render(prompt, open_turn=True) == pieces[0].text


def test_a_child_and_the_library_render_the_same() -> None:
    library = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    own = CHATML + " "  # not ours: rendered by the child
    messages = [each.to_json() for each in TWICE.messages]
    assert Template(own).render(TWICE) == library.from_string(own).render(messages=messages)


def test_turns_that_are_written_otherwise_later_are_not_learned() -> None:
    learned = [piece.text for piece in Template(FORGETS).pieces(TWICE) if piece.learned]
    assert learned == [" 2 ;"]


def test_a_template_that_refuses_or_does_not_part_answers() -> None:
    with pytest.raises(DataError, match="refuses these messages: no system"):
        Template(BRACKETS).render(TWICE)
    for source in ("{{ messages | length }}", FORGETS.replace(" or m.role == 'user'", "")):
        with pytest.raises(DataError, match="where an answer begins"):
            Template(source).pieces(ASKED)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'a' * 10**8 }}",
        "{% set x = namespace(s='ab') %}{% for i in range(60) %}{% set x.s = x.s ~ x.s %}"
        "{% endfor %}{{ x.s }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% for",
    ],
)
def test_templates_that_would_do_harm_end_in_an_error(source: str) -> None:
    renderer = Renderer(seconds=0.5)
    with pytest.raises(DataError, match="template failed"):
        renderer.render(source, [{"messages": []}])
    assert renderer.render("{{ 1 + 1 }}", [{}]) == ["2"]  # and the next one runs
    renderer.close()
