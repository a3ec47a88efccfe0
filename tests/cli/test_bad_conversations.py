"""What cannot be learned from conversations is refused by the program in one line, before anything is touched.

A loss over nothing is zero and looks like success; so are answers whose end is not learned. Here they stand in
the second stage of a recipe: the first must not be trained for nothing either.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import lives
from linnet.cli.main import main
from linnet.text.chat_template import CHATML

WORDS = "{{- message['content'] + '<|im_end|>' -}}"
BLOCK = "{%- generation -%}" + WORDS + "{%- endgeneration -%}"
assert BLOCK in CHATML

# No block is about the assistant's words: an empty mask, over which every loss is 0.
EMPTY = CHATML.replace(BLOCK, "{%- generation -%}{%- endgeneration -%}" + WORDS)
# The end of a turn belongs to nobody: the model would never stop.
ENDLESS = CHATML.replace(
    WORDS + "{%- endgeneration -%}", "{{- message['content'] -}}{%- endgeneration -%}<|im_end|>"
)
# Thoughts stand in the last answer alone, as Qwen3 writes them: what was asked is not what is history.
FORGETFUL = CHATML.replace(BLOCK, "{%- if loop.last -%}<think></think>{%- endif -%}" + WORDS)
# No turn is written at all.
SILENT = CHATML.replace(BLOCK, "")

Refuse = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Refuse:
    """What `linnet train` says of a life with this template: one line, exit 2, and no run folder."""

    def call(template: str, *overrides: str) -> str:
        (tmp_path / "form.jinja").write_text(template, encoding="utf-8")
        chosen = [f"{stage}.chat.chat_template={tmp_path / 'form.jinja'}" for stage in ("sft", "dpo")]
        command = ["train", lives.recipe_file(tmp_path), *chosen, *overrides, "--run", tmp_path / "run"]
        monkeypatch.setattr(sys, "argv", ["linnet", *map(str, command)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert ended.value.code == 2
        lines = said.err.strip().splitlines()
        assert len(lines) == 1, said.err
        assert lines[0].startswith("linnet: ")
        assert "Traceback" not in said.out + said.err
        assert not (tmp_path / "run").exists(), "something was touched"
        return lines[0]

    return call


def several_turns(folder: Path) -> str:
    said = [{"role": role, "content": f"{role} {n}"} for n in range(2) for role in ("user", "assistant")]
    path = folder / "turns.jsonl"
    path.write_text("".join(json.dumps({"messages": [*said[:-1], {**said[-1], "content": f"answer {n}"}]}) + "\n"
                            for n in range(40)))  # fmt: skip
    return f"sft.data.sources=[{path}]"


@pytest.mark.parametrize("stages", ["stages=[pretrain, sft]", "stages=[pretrain, sft, safety, dpo]"])
def test_an_empty_mask_is_refused(refused: Refuse, stages: str) -> None:
    line = refused(EMPTY, stages)
    assert "100.0% of examples have nothing to learn" in line
    assert "sft.data" in line
    assert "generation" in line, "the mend is said"


def test_an_end_that_is_not_learned_is_refused(refused: Refuse) -> None:
    line = refused(ENDLESS, "stages=[pretrain, sft]")
    assert "100.0% of examples have an answer whose end is not learned, so the model would not stop" in line
    assert "inside {% generation %}" in line


def test_a_template_that_rewrites_history_is_refused_and_each_answer_by_itself_is_the_mend(
    refused: Refuse, tmp_path: Path
) -> None:
    lives.write(tmp_path)
    line = refused(FORGETFUL, "stages=[pretrain, sft]", several_turns(tmp_path))
    assert "otherwise when it is asked for than when it is history" in line
    assert "turns: each" in line


@pytest.mark.parametrize("stage", ["sft", "dpo"])
@pytest.mark.parametrize(("template", "said"), [(EMPTY, "nothing to learn"), (SILENT, "end is not learned")])
def test_pairs_are_looked_over_as_conversations_are(
    refused: Refuse, stage: str, template: str, said: str
) -> None:
    line = refused(template, f"stages=[pretrain, {stage}]")
    assert f"{stage}.data: 100.0% of examples have" in line
    assert said in line
