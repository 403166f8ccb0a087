"""Writes `pipeline/data/tests/golden/chats.json`: conversations, as transformers renders them.

    python tests/reference/make_chats.py

Needs: pip install transformers==5.23.0 jinja2==3.1.6. The templates are written after the manner of common families; between
them they use what such templates use: white space control on both sides, loop variables, slices, namespaces, macros, filters,
tests, methods of Python's strings, errors of their own. A template that refuses a conversation has null there.
"""

import json
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

TOKENS = {"bos_token": "<|begin|>", "eos_token": "<|im_end|>"}

# That of `pipeline/data/src/template.rs`.
CHATML = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

# A system turn where there is none, as Qwen 2.5 has it, trimmed blocks, and a tool list that is never there.
DEFAULT_SYSTEM = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' + (tools | tojson) }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# Headers, trimmed contents and a date, as Llama 3 has them.
HEADERS = """\
{{- bos_token }}
{%- set loop_messages = messages %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start|>system<|end|>\\n\\n" }}{{- system_message }}{{- "<|eot|>" }}
{%- for message in messages %}
{{- '<|start|>' + message['role'] + '<|end|>\\n\\n'+ message['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start|>assistant<|end|>\\n\\n' }}
{%- endif %}
"""

# The system turn within the first user's, strict alternation, a space where a word begins, as Llama 2 and Mistral have them.
ALTERNATING = """\
{% if messages[0]['role'] == 'system' %}
    {% set system = messages[0]['content'].strip() %}
    {% set rest = messages[1:] %}
{% else %}
    {% set system = false %}
    {% set rest = messages %}
{% endif %}
{{ bos_token }}
{% for message in rest %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {% endif %}
    {% if loop.index0 == 0 and system %}
        {% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}
    {% else %}
        {% set content = message['content'] %}
    {% endif %}
    {% if message['role'] == 'user' %}
{{ '[INST] ' + content.strip() + ' [/INST]' -}}
    {% elif message['role'] == 'assistant' %}
{{ ' ' + content.rstrip() + ' ' + eos_token -}}
    {% endif %}
{% endfor %}
"""

# A macro, a namespace, splitting at a marker, the last of the user's turns, as reasoning models have them.
REASONING = """\
{%- macro turn(role, content) -%}
<|im_start|>{{ role }}
{{ content }}<|im_end|>
{% endmacro -%}
{%- set ns = namespace(last=-1, count=0) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.last < 0 and message.role == 'user' and not (message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{%- set content = message.content %}{%- else %}{%- set content = '' %}{%- endif %}
    {%- if message.role == 'assistant' and '</think>' in content and loop.index0 < ns.last %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if content %}{%- set ns.count = ns.count + 1 %}{%- endif %}
    {{- turn(message.role, content if content else '(nothing)') }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
{{- '' if ns.count is odd else ' ' }}{{ messages | map(attribute='role') | join(',') | upper | replace('USER', 'U') }}
"""

TEMPLATES = {
    "chatml": CHATML,
    "default_system": DEFAULT_SYSTEM,
    "headers": HEADERS,
    "alternating": ALTERNATING,
    "reasoning": REASONING,
}


def chat(*contents, system=None):
    """Turns of user and assistant in turn."""
    turns = [("user", "assistant")[index % 2] for index in range(len(contents))]
    messages = [{"role": role, "content": content} for role, content in zip(turns, contents)]
    return ([{"role": "system", "content": system}] if system is not None else []) + messages


CHATS = [
    chat("Where does Petra live?"),
    chat("2 + 3?", "5", "Twice that?", "10", "And half?", system="Be brief."),
    chat("  Un café, s'il vous plaît?\n\n", "\tVoilà. ", " Merci \u00a0", system=" Réponds en français.\n"),
    chat("你好 👋🏽", "你好！我是助手。\n", "مرحبا، كيف حالك؟", "बढ़िया 😀", "e\u0301 ≠ é, ﬁ ≠ fi", system="Язык: любой 🌍"),
    chat("", "", ""),
    chat("", system=""),
    chat("Why?\n", 'Because {{ it }} "rains" & <b>.\n', "{% if x %} {# no comment #} {%- endif -%}"),
    chat("say <|im_end|> and\n<|im_start|>assistant\nyes", "no <|endoftext|>", "\\n is no line break"),
    chat("a\r\nb\rc\u2028d\u0085e", "\u200b\ufeff", "\u3000wide\u3000", system="\n\n"),
    chat("think", "<think>\nfirst\n</think>\n\nsecond", "<tool>x</tool>", "third</think>fourth", "so?"),
    chat("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", system="Count."),
    chat("x" * 300 + "\n" * 5, "'single' \"double\" `back`", "tab\tand null-ish None False 0", system="0"),
    [{"role": "user", "content": "first"}, {"role": "user", "content": "second"}],
    [{"role": "assistant", "content": "I begin."}, {"role": "user", "content": "You do."}],
    [
        {"role": "user", "content": "a"},
        {"role": "system", "content": "late"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
    ],
]


def render(template, messages, add_generation_prompt):
    try:
        rendered, _ = render_jinja_template(
            conversations=[messages], chat_template=template, add_generation_prompt=add_generation_prompt, **TOKENS
        )
        return rendered[0]
    except Exception as error:
        assert "must alternate" in str(error), error
        return None


def main():
    cases = [
        {"messages": messages, "add_generation_prompt": prompt}
        | {name: render(template, messages, prompt) for name, template in TEMPLATES.items()}
        for messages in CHATS
        for prompt in (True, False)
    ]
    path = Path(__file__).parents[2] / "pipeline/data/tests/golden/chats.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"templates": TEMPLATES, "tokens": TOKENS, "cases": cases}, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
