"""The template language: every construct gives what jinja2's sandbox gives, and marks follow the characters."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from orrery.kit.errors import OrreryError
from orrery.text.jinja import strings
from orrery.text.jinja.limits import Budget, Limits
from orrery.text.jinja.marked import FLAG, Text, concat, message_mark, take_in, template_mark
from orrery.text.jinja.program import Program
from orrery.text.jinja.rendering import Rendering

GIVEN: dict[str, Any] = {
    "s": " Hello, <World> & 'you' \n",
    "t": "naïve straße ǆ İ 😀\ttab",
    "n": 7,
    "z": 0,
    "f": 2.5,
    "yes": True,
    "none": None,
    "l": [3, 1, 2],
    "w": ["b", "A", "c", "a"],
    "e": [],
    "d": {"b": 1, "A": [1, "x", None], "items": 5, "k": {"j": "v"}},
    "rows": [{"name": "x", "v": 2, "on": True}, {"name": "Y", "v": 1}, {"name": "z", "v": 2, "on": False}],
    "tree": [{"n": 1, "c": [{"n": 2, "c": []}, {"n": 3, "c": [{"n": 4, "c": []}]}]}],
}

SNIPPETS = r"""
{{ s }}|{{ n }}|{{ f }}|{{ yes }}|{{ none }}|{{ missing }}|{{ l }}|{{ d }}|{{ w|list }}|{{ (1,) }}|{{ (1, 'a') }}|{{ [] }}
{{ "a\tb\n\"c\" é" }}|{{ 'x' 'y' }}|{{ ['\n', "'", '"', "'\""] }}|{{ {1: 'a', 'b': 2.0, none: true} }}
{{ 1 + 2 * 3 - 4 / 5 }}|{{ 7 // 2 }}|{{ -7 % 3 }}|{{ 2 ** 3 ** 2 }}|{{ -n }}|{{ +f }}|{{ 1e3 }}|{{ 1_000 }}|{{ 0x10 }}|{{ 10 / 4 }}
{{ s + t }}|{{ s ~ n ~ none ~ yes ~ l ~ missing }}|{{ 'a' * 3 }}|{{ 3 * 'a' }}|{{ l + [4] }}|{{ [1] * 3 }}|{{ 'ab' * -1 }}
{{ n == 7 }}{{ n != 7 }}{{ n < 8 }}{{ 1 < n <= 7 }}{{ n > 8 }}{{ 'a' < 'b' }}{{ l == [3, 1, 2] }}{{ none == missing }}{{ missing == nothing }}
{{ 3 in l }}{{ 9 in l }}{{ 'b' in d }}{{ 'Hell' in s }}{{ 'x' not in s }}{{ 1 in (1, 2) }}{{ 'a' in missing }}{{ missing in l }}{{ 2 in range(3) }}
{{ n and z }}{{ z or 'x' }}{{ not z }}{{ e or none }}{{ yes and n and s }}{{ missing or 'd' }}
{{ 'a' if yes else 'b' }}{{ 'a' if z }}{{ ('a' if z) is defined }}{{ 'q' if none else 'r' if z else 't' }}
{{ d.b }}{{ d['b'] }}{{ d.A[1] }}{{ d.k.j }}{{ d['k']['j'] }}{{ d.missing }}{{ d['missing'] is defined }}{{ l[0] }}{{ l[-1] }}{{ l[9] }}{{ l['x'] }}
{{ d['items'] }}|{{ d.items is defined }}|{{ d.items is callable }}|{{ d.items() }}|{{ d.keys() }}|{{ d.values()|list }}|{{ d.get('b') }}{{ d.get('q', 3) }}{{ d.get('q') }}
{{ s[1:4] }}|{{ s[::-1] }}|{{ s[-3:] }}|{{ l[1:] }}{{ l[::-1] }}{{ l[:2] }}{{ s[2] }}{{ s[-2] }}{{ s[99] }}{{ 'abc'[5:] }}{{ (1,2,3)[1:] }}
{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip('\n ') }}|{{ s.split() }}|{{ s.split(',') }}|{{ s.split('l', 1) }}|{{ s.rsplit('o', 1) }}|{{ ' a  b '.split() }}|{{ ' a b c '.split(none, 1) }}|{{ ' a b c '.rsplit(none, 1) }}
{{ s.upper() }}{{ s.lower() }}{{ s.title() }}{{ t.upper() }}{{ t.lower() }}{{ t.capitalize() }}{{ t.swapcase() }}{{ t.casefold() }}{{ t.title() }}
{{ s.startswith(' H') }}{{ s.endswith(('x', '\n')) }}{{ s.find('o') }}{{ s.count('l') }}{{ s.index('W') }}{{ s.rfind('o') }}{{ 'ab1'.isalnum() }}{{ 'A'.isupper() }}{{ ' '.isspace() }}{{ '12'.isdigit() }}
{{ s.replace('l', 'LL') }}|{{ s.replace('l', '', 1) }}|{{ 'ab'.replace('', '-') }}|{{ 'ab'.replace('', '-', 1) }}|{{ s.replace('q', 'r') }}
{{ 'a\nb\r\nc\n'.splitlines() }}|{{ 'a\nb\n'.splitlines(true) }}|{{ 'a-b-c'.partition('-') }}|{{ 'a-b-c'.rpartition('-') }}|{{ 'abc'.partition('q') }}|{{ 'abc'.rpartition('q') }}
{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('c') }}{{ 'abc'.removesuffix('x') }}{{ '-'.join(w) }}{{ 'ab'.center(7, '*') }}{{ 'abc'.center(8) }}|{{ 'ab'.ljust(5) }}|{{ 'ab'.rjust(5, '0') }}|{{ '-7'.zfill(5) }}{{ 'a\tb'.expandtabs(4) }}
{{ '%s is %d or %5.2f and %r%%' % ('x', 3, 2.5, 'q') }}|{{ '%(a)s-%(b)03d' % {'a': 1, 'b': 2} }}|{{ '%-5s|%5s' % ('a', 'b') }}|{{ '%x' % 255 }}|{{ '%s' % none }}|{{ '%s' % [1] }}
{{ '{} {} {0}'.format('a', 'b') if z else '{0} {1} {0}'.format('a', 'b') }}|{{ '{x}-{y:>4}|{z:.2f}'.format(x=1, y='a', z=2.0) }}|{{ '{{}}'.format() }}|{{ '{a[b]}'.format(a=d) }}|{{ '{!r}'.format('a') }}|{{ '{:5d}'.format(3) }}
{{ s|trim }}|{{ 'xxaxx'|trim('x') }}|{{ n|trim }}|{{ s|upper }}|{{ s|lower }}|{{ s|capitalize }}|{{ 'hello wOrld-foo (bar)'|title }}|{{ s|length }}{{ l|length }}{{ d|count }}{{ missing|length }}
{{ missing|default('d') }}{{ none|default('d') }}{{ none|default('d', true) }}{{ ''|d('e', boolean=true) }}{{ missing|default }}{{ z|default(1) }}
{{ l|first }}{{ l|last }}{{ s|first }}{{ 'abc'|last }}{{ e|first }}{{ e|last is defined }}{{ d|first }}{{ l|sum }}{{ rows|sum(attribute='v') }}{{ l|sum(start=10) }}{{ l|max }}{{ l|min }}{{ w|max }}{{ w|min(case_sensitive=true) }}{{ e|max }}{{ rows|map(attribute='v')|max }}
{{ l|sort }}{{ w|sort }}{{ w|sort(case_sensitive=true) }}{{ l|sort(reverse=true) }}{{ rows|sort(attribute='v')|map(attribute='name')|join }}{{ rows|sort(attribute='v,name')|map(attribute='name')|join }}{{ d|dictsort }}{{ d|dictsort(true) }}{{ {'a': 2, 'b': 1}|dictsort(by='value') }}{{ {'a': 2, 'b': 1}|dictsort(reverse=true) }}
{{ w|join }}{{ w|join(', ') }}{{ rows|join('|', attribute='name') }}{{ [1, none, 2.5]|join('-') }}{{ missing|join }}{{ 'abc'|join('.') }}
{{ w|map('upper')|list }}{{ rows|map(attribute='name')|list }}{{ rows|map(attribute='on', default='?')|list }}{{ ['a-b']|map('replace', '-', '+')|list }}{{ l|map('string')|join }}
{{ l|select('odd')|list }}{{ l|reject('odd')|list }}{{ l|select('gt', 1)|list }}{{ l|select|list }}{{ rows|selectattr('on')|list|length }}{{ rows|selectattr('v', 'equalto', 2)|map(attribute='name')|list }}{{ rows|rejectattr('on', 'defined')|list|length }}{{ none|selectattr('x')|list }}{{ rows|selectattr('name', 'in', ['x', 'z'])|list|length }}
{% if e|select %}true{% endif %}{% set g = l|select %}{{ g|list }}{{ g|list }}{{ l|map('abs') is iterable }}{{ l|map('abs') is sequence }}
{{ w|unique|list }}{{ [1, 1, 2]|unique|list }}{{ rows|unique(attribute='v')|map(attribute='name')|list }}{{ l|reverse|list }}{{ 'abc'|reverse }}{{ l|batch(2)|list }}{{ l|batch(2, 'x')|list }}{{ range(7)|slice(3)|list }}{{ range(7)|slice(3, 'x')|list }}
{% for g in rows|groupby('v') %}{{ g.grouper }}:{{ g.list|length }};{% endfor %}{% for k, v in rows|groupby('v') %}{{ k }}{{ v|map(attribute='name')|join }}{% endfor %}{{ rows|groupby('on', default=9)|length }}
{{ '5'|int }}{{ 'x'|int }}{{ 'x'|int(9) }}{{ '0x1f'|int(base=16) }}{{ 2.9|int }}{{ '2.9'|int }}{{ '2.5'|float }}{{ 'x'|float }}{{ none|int }}{{ 2.567|round(1) }}{{ 2.5|round }}{{ 2.1|round(method='ceil') }}{{ 2.19|round(1, 'floor') }}{{ -3|abs }}
{{ 'a\nb\n\nc'|indent }}|{{ 'a\nb'|indent(2, true) }}|{{ 'a\n\nb'|indent(2, blank=true) }}|{{ 'a\nb'|indent('>>') }}|{{ 'a\n'|indent }}|
{{ 'foo bar baz qux'|truncate(9) }}|{{ 'foo bar baz qux'|truncate(9, true) }}|{{ 'foo bar baz qux'|truncate(11) }}|{{ 'foo bar baz qux'|truncate(11, false, '..', 0) }}|{{ 'a b c d e f g'|wordwrap(5) }}|{{ s|wordcount }}|{{ 'a b&c/ü'|urlencode }}|{{ 'x'|center(9) }}|
{{ s|e }}|{{ ('<'|safe) + '<' }}|{{ '<' + ('<'|safe) }}|{{ ('<'|safe) ~ '<' }}|{{ ('<'|e)|e }}|{{ s|escape|upper }}|{{ '<a>'|safe|replace('a', 'b') }}|{{ ('<'|safe) is escaped }}|{{ ("'"|safe) + d.A[1] + '"' }}|{{ '<'|e|forceescape }}
{{ n|string + 'x' }}|{{ none|string }}|{{ d|items|list }}|{{ missing|items|list }}|{{ 'a'|attr('upper') is callable }}|{{ '%s-%s'|format(1, 'b') }}|{{ '%(a)s'|format(a=3) }}|{{ missing|string }}|{{ missing|trim }}|{{ missing|list }}|{{ 'ab'|list }}|{{ d|list }}
{{ n is odd }}{{ n is even }}{{ n is divisibleby 7 }}{{ n is divisibleby(2) }}{{ n is number }}{{ f is float }}{{ n is integer }}{{ yes is integer }}{{ yes is boolean }}{{ yes is true }}{{ z is false }}{{ n is not none }}{{ s is string }}{{ d is mapping }}{{ l is sequence }}{{ d is sequence }}{{ s is sequence }}{{ n is sequence }}{{ missing is sequence }}{{ l is iterable }}{{ n is iterable }}{{ missing is undefined }}
{{ n is eq 7 }}{{ n is gt(3) }}{{ n is lt 3 }}{{ n is sameas 7 }}{{ 'a' is in ['a'] }}{{ 'ab' is lower }}{{ 'AB' is upper }}{{ 'upper' is filter }}{{ 'q' is filter }}{{ 'odd' is test }}{{ d.get is callable }}{{ range is callable }}{{ n is callable }}{{ d.items() is sequence }}{{ range(3) is sequence }}
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}
{% for x in l if x > 1 %}{{ x }}{{ loop.index }}{{ loop.length }}{% else %}none{% endfor %}{% for x in e %}{% else %}empty{% endfor %}{% for x in l if x > 9 %}{% else %}no{% endfor %}{% for x in missing %}{% else %}undef{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for c in 'abc' %}{{ c }}-{% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% endfor %}{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}
{% for item in tree recursive %}{{ item.n }}{{ loop.depth }}{% if item.c %}({{ loop(item.c) }}){% endif %}{% endfor %}
{% set x = 1 %}{% for i in l %}{{ x }}{% set x = x + i %}{{ x }};{% endfor %}{{ x }}{% if true %}{% set x = 5 %}{% endif %}{{ x }}{% set a, b = 1, 2 %}{{ a }}{{ b }}
{% set ns = namespace(x=1, y=[]) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns['x'] }}{{ ns.q is defined }}{% set ns.q = 3 %}{{ ns.q }}{{ namespace({'a': 1}).a }}
{% set x %}a {{ n }} b{% endset %}[{{ x }}]{% set y | upper %}q{{ s }}{% endset %}{{ y }}{% filter upper %}abc{{ n }}{% filter trim %}  d {% endfilter %}{% endfilter %}
{% with a = 1, b = n %}{{ a }}{{ b }}{% set a = 2 %}{{ a }}{% endwith %}{{ a }}{% with %}{% set q = 3 %}{{ q }}{% endwith %}{{ q }}
{% macro m(a, b='B', c=a) %}[{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, c=3) }}{{ m(1, 2, 3, 4, 5) }}{{ m(1, q=2) }}{{ m() }}{{ m(b=1) }}{{ m(*[1, 2]) }}{{ m(**{'a': 9}) }}{{ m(1)|upper }}{{ m(1) ~ 'x' }}
{% macro outer() %}{{ inner(x) }}{% endmacro %}{% macro inner(v) %}<{{ v }}{{ n }}>{% endmacro %}{% set x = 4 %}{{ outer() }}{% set x = 5 %}{{ outer() }}
{% macro fact(k) %}{% if k > 1 %}{{ k }}*{{ fact(k - 1) }}{% else %}1{% endif %}{% endmacro %}{{ fact(5) }}{% macro noargs() -%}  x  {%- endmacro %}{{ noargs() }}{{ noargs() is string }}
{% macro box(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call box('b') %}in {{ n }}{% endcall %}{% macro each(xs) %}{% for x in xs %}{{ caller(x, loop.index) }}{% endfor %}{% endmacro %}{% call(v, i) each(l) %}{{ i }}:{{ v }},{% endcall %}
{% if missing %}a{% elif z %}b{% elif n %}c{% else %}d{% endif %}{% if not missing and n is defined %}e{% endif %}{# comment #}{% raw %}{{ raw }}{% endraw %}
{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{% set j = joiner('; ') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}{{ range(3)|list }}{{ range(1, 9, 3)|list }}{{ dict(a=1, b=n) }}{{ dict(d, z=1)|length }}{{ range(4)[1:]|list }}
{{ d|tojson }}|{{ d|tojson(indent=2) }}|{{ t|tojson }}|{{ t|tojson(ensure_ascii=true) }}|{{ d|tojson(sort_keys=true, separators=(',', ':')) }}|{{ [[], {}, [[]], 1.0, 1e30, true, none, "</script>'&"]|tojson(indent=1) }}|{{ s|tojson }}|{{ (1, 2)|tojson }}|{{ {1: 2, none: 3, true: 4, 2.5: 5}|tojson }}
{{ l.index(1) }}{{ l.count(1) }}{{ l.copy() }}{{ d.copy() == d }}{{ (1, 2).index(2) }}{{ l.append is defined }}{{ d.update is defined }}{{ d.pop is defined }}{{ s.nothing is defined }}{{ n.nothing is defined }}
{% block body %}in {{ n }}{% set inside = 1 %}{% endblock %}{{ inside }}{% set u = 1 %}{% for q in l %}{% block b2 %}{{ q is defined }}{{ u }}{% endblock %}{% endfor %}
{% set dct = {'f': s} %}{{ dct.f.strip().split(',')[0].upper() }}{{ (s ~ t)|length }}{{ ('a', 'b') == ('a', 'b') }}{{ [1, [2, 'x']] == [1, [2, 'x']] }}{{ d == d }}{{ [2] > [1] }}
{{ rows|selectattr('name', 'equalto', 'x')|first }}|{{ rows[0].name ~ rows[-1]['name'] }}|{{ rows|map(attribute='name')|map('lower')|join(',') }}|{{ (rows|first).v + 1 }}|{{ rows[1:]|length }}
""".strip("\n").split("\n")  # fmt: skip
BLOCKS = [
    "  {% if true %}\n    trimmed\n  {% endif %}\n  {{- ' left' }}   {{ 'x' -}}   y {%- if true %} z {%+ endif %}   w",
    "\n  {% for x in l %}\n    {{ x }}\n  {% endfor %}\nend\n",
    "{%- if true -%}\n  a\n{%- else -%}\n  b\n{%- endif %}\n\n",
    "a\r\nb\rc{# x #}\n  {#- y -#}\n d",
    "{% generation %}{% set q = 1 %}x{% endgeneration %}{{ q }}",
    "<< {{ '{{' }} >> {% raw %}\n {% if %}\n{% endraw %}\nz",
    "# for x in l\n## not line statements\n",
]
FAILING = """
{{ missing.x }}
{{ missing + 1 }}
{{ missing() }}
{{ missing['a'] }}
{{ 'a' + 1 }}
{{ 1 + none }}
{{ none.x.y }}
{{ missing|tojson }}
{{ missing|int }}
{{ 1 < 'a' }}
{{ missing < 1 }}
{{ n() }}
{% for x in none %}{% endfor %}
{% for a, b in l %}{% endfor %}
{% set n.x = 1 %}
{{ d.get() }}
{{ l[0:'a'] }}
{{ n[1:] }}
{{ 'abc'.index('q') }}
{{ '%d' % 'x' }}
{{ '%s %s' % 'x' }}
{{ '{}'.format() }}
{{ none|length }}
{{ [1, 'a']|sort }}
{{ l|join(1, 2, 3, 4) }}
{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{% endmacro %}{{ m(q=2) }}
{{ raise_exception('no') }}
{{ range('a') }}
{{ s in 5 }}
{{ 'x' in none }}
{{ {[]: 1} }}
{{ dict(1) }}
""".strip().split("\n")


@cache
def reference() -> jinja2.Environment:
    """jinja2's own sandbox, set up as chat templates are."""

    class Generation(jinja2.ext.Extension):
        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_keep"), [], [], body).set_lineno(line)

        def _keep(self, caller: Callable[[], str]) -> str:
            return caller()

    def tojson(
        x: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def ours(template: str, **given: Any) -> Text:
    return Program(template).render({name: take_in(value, "\1") for name, value in given.items()})


@pytest.mark.parametrize("template", SNIPPETS + BLOCKS)
def test_it_renders_what_jinja_renders(template: str) -> None:
    assert str(ours(template, **GIVEN)) == reference().from_string(template).render(**GIVEN)


@pytest.mark.parametrize("template", FAILING)
def test_it_fails_where_jinja_fails(template: str) -> None:
    with pytest.raises(Exception):  # noqa: B017
        reference().from_string(template).render(**GIVEN)
    with pytest.raises(OrreryError):
        ours(template, **GIVEN)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    value=json_values,
    indent=st.sampled_from([None, 0, 2, "\t"]),
    ascii=st.booleans(),
    separators=st.sampled_from([None, (",", ":")]),
    sort=st.booleans(),
)
def test_json_and_printing_as_python_does(
    value: Any, indent: Any, ascii: bool, separators: Any, sort: bool
) -> None:
    got = Program("{{ v|tojson(indent=i, ensure_ascii=a, separators=s, sort_keys=k) }}").render(
        {"v": take_in(value, "\1"), "i": indent, "a": ascii, "s": separators, "k": sort}
    )
    want = json.dumps(value, indent=indent, ensure_ascii=ascii, separators=separators, sort_keys=sort)
    assert str(got) == want and (
        set(got.marks) == {"\1"} or value in ("", None) or isinstance(value, int | float)
    )
    assert str(ours("{{ v }}", v=value)) == str(value)


METHODS: list[tuple[str, list[st.SearchStrategy[Any]]]] = [
    ("strip", []), ("lstrip", [st.sampled_from(["a", "ab "])]), ("rstrip", [st.sampled_from(["b", " a"])]),
    ("split", [st.sampled_from(["a", "ab"]), st.integers(-1, 3)]), ("split", [st.none(), st.integers(-1, 3)]),
    ("rsplit", [st.sampled_from(["a", "bb"]), st.integers(-1, 3)]), ("rsplit", [st.none(), st.integers(-1, 3)]),
    ("splitlines", [st.booleans()]), ("partition", [st.sampled_from(["a", "b "])]), ("rpartition", [st.sampled_from(["a"])]),
    ("removeprefix", [st.sampled_from(["a", "ab"])]), ("removesuffix", [st.sampled_from(["a", "ab"])]),
    ("replace", [st.sampled_from(["a", "", "ab"]), st.sampled_from(["", "#", "##"]), st.integers(-1, 3)]),
    ("center", [st.integers(0, 12), st.just("#")]), ("ljust", [st.integers(0, 12), st.just("#")]),
    ("rjust", [st.integers(0, 12), st.just("#")]), ("zfill", [st.integers(0, 12)]),
    ("expandtabs", [st.integers(0, 5)]), ("join", [st.just(["x", "y", "z"])]),
]  # fmt: skip


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


@settings(max_examples=400, deadline=None)
@given(text=st.text(alphabet="ab \t\n+-ß", max_size=10), data=st.data())
def test_each_character_keeps_its_mark(text: str, data: st.DataObject) -> None:
    name, strategies = data.draw(st.sampled_from(METHODS))
    args = [data.draw(strategy) for strategy in strategies]
    marks = "".join(chr(100 + i) for i in range(len(text)))  # each character its own
    run = Rendering(Budget(Limits(), 0))
    got, want = strings.METHODS[name](run, Text(text, marks), *args), getattr(str, name)(text, *args)
    assert [str(part) for part in _texts(got)] == _texts(want)
    for part in _texts(got):
        if isinstance(part, Text):
            assert len(part.marks) == len(part)
            if name != "expandtabs":
                assert all(
                    m == "\0" or text[ord(m) - 100] == c for c, m in zip(str(part), part.marks, strict=True)
                )


def test_marks_say_which_message_wrote_what() -> None:
    messages = [take_in({"role": "user", "content": "Hi you"}, message_mark(0), 0)]
    messages.append(take_in({"role": "assistant", "content": "No"}, message_mark(1), 1))
    template = (
        "<s>{% for m in messages %}[{{ m.content|upper }}{{ '!' }}{{ m.content.split()[-1] }}]{% endfor %}."
    )
    text = Program(template).render({"messages": messages})
    a, A, b, B = template_mark(0), message_mark(0), template_mark(1), message_mark(1)
    assert str(text) == "<s>[HI YOU!you][NO!No]."
    assert text.marks == "\0\0\0" + a + A * 6 + a + A * 3 + a + b + B * 2 + b + B * 2 + b + "\0"


def test_marks_survive_accumulating_and_macros() -> None:
    messages = [take_in({"c": c}, message_mark(i), i) for i, c in enumerate(["ab", "c"])]
    gather = "{% set ns = namespace(o='') %}{% for m in messages %}{% set ns.o = ns.o ~ '<' ~ m.c ~ '>' %}{% endfor %}{{ ns.o }}"
    macro = "{% macro w(m) %}<{{ m.c }}>{% endmacro %}{% for m in messages %}{{ w(m) }}{% endfor %}"
    index = "{% for i in range(2) %}{% set m = messages[i] %}<{{ m.c }}>{% endfor %}"
    a, A, b, B = template_mark(0), message_mark(0), template_mark(1), message_mark(1)
    for template in (gather, macro, index):
        text = Program(template).render({"messages": messages})
        assert (str(text), text.marks) == ("<ab><c>", a + A + A + a + b + B + b)


def test_generation_blocks_are_flagged() -> None:
    text = Program("a{% generation %}b{{ x }}{% endgeneration %}c").render({"x": take_in("x", "\1")})
    assert (str(text), text.marks) == ("abxc", "\0" + chr(FLAG) + chr(FLAG | 1) + "\0")


def test_blurred_marks_never_trust() -> None:
    mixed = concat([Text("ß", "\1"), "<"], "\0")
    run = Rendering(Budget(Limits(), 0))
    assert (
        strings.METHODS["upper"](run, mixed).marks == "\1\1\1"
    )  # one letter became two: all of it is from outside


def test_the_clock_can_be_fixed() -> None:
    import datetime

    program = Program("{{ strftime_now('%d %b %Y') }}")
    assert program.render({}, now=datetime.datetime(2026, 1, 2)) == "02 Jan 2026"
    assert program.render({}, now="2026-01-01") == "2026-01-01"
    assert program.render({}, now=lambda format: format) == "%d %b %Y"
    assert len(program.render({})) == 11
