"""Chat templates render as transformers renders them, in a sandbox."""

import json

import pytest

from linnet.config import RequestError
from linnet.text import Tokenizer, train_tokenizer
from linnet.text.chat_tokens import template_for

CHATML = (
    "{% for message in messages %}\n"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}"
    "{% endif %}{% for m in rest %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] | trim "
    "+ ' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% else %}"
    "{{ raise_exception('no such role') }}{% endif %}{% endfor %}"
)
TALK = [
    {"role": "user", "content": "Who lives in the mill? "},
    {"role": "assistant", "content": "A fox."},
    {"role": "user", "content": "And <in> the tower?"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    train_tokenizer(["a fox lives in the old mill by the river"] * 50, 270).save(path)
    return path


def with_template(folder, tmp_path, template):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config |= {"chat_template": template, "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def read(path):
    return template_for(Tokenizer.load(path))


@pytest.mark.parametrize("template", [CHATML, LLAMA])
@pytest.mark.parametrize("prompt", [True, False])
def test_renders_as_transformers_does(folder, tmp_path, template, prompt):
    transformers = pytest.importorskip("transformers")
    path = with_template(folder, tmp_path, template)
    loaded = read(path)
    oracle = transformers.AutoTokenizer.from_pretrained(path)
    expected = oracle.apply_chat_template(TALK, tokenize=False, add_generation_prompt=prompt)
    assert loaded.render(TALK, prompt) == expected


def test_a_folder_without_a_template_has_none(folder):
    assert Tokenizer.load(folder).chat_template is None


def test_a_jinja_file_comes_before_the_configuration(folder, tmp_path):
    path = with_template(folder, tmp_path, CHATML)
    (path / "chat_template.jinja").write_text("{{ messages | length }}")
    loaded = read(path)
    assert loaded.render(TALK) == "3"


def test_a_template_that_refuses_is_one_line(folder, tmp_path):
    loaded = read(with_template(folder, tmp_path, LLAMA))
    with pytest.raises(RequestError, match="no such role"):
        loaded.render([{"role": "user", "content": "x"}, {"role": "judge", "content": "y"}])


def test_a_broken_template_is_one_line(folder, tmp_path):
    with pytest.raises(RequestError, match="broken"):
        read(with_template(folder, tmp_path, "{% for x in %}"))


def test_a_template_cannot_leave_its_sandbox(folder, tmp_path):
    loaded = read(with_template(folder, tmp_path, "{{ ''.__class__.__mro__[1].__subclasses__() }}"))
    with pytest.raises(RequestError):
        loaded.render(TALK)


def test_of_several_templates_by_name_the_default_is_taken(folder, tmp_path):
    several = [
        {"name": "tools", "template": "no"},
        {"name": "default", "template": "{{ messages | length }}"},
    ]
    loaded = read(with_template(folder, tmp_path, several))
    assert loaded.render(TALK) == "3"
