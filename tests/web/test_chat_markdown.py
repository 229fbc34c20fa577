"""What a model writes, as elements: the renderer and the reader of events, called in a real page."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.web.chromium import needs_chromium, running_chromium

pytestmark = needs_chromium

STATIC = Path(__file__).resolve().parents[2] / "static"
KINDS = {".js": "text/javascript", ".html": "text/html"}
EVIL = "http://evil.example"

BLANK = """<!doctype html><meta charset="utf-8"><div id="place"></div>
<template id="chat-code"><div class="chat-code"><div><span></span></div><pre><code></code></pre></div></template>"""
SHOW = """async ([text, step]) => {
    const { MarkdownView } = await import("/static/web/chat_markdown.js");
    const place = document.getElementById("place");
    place.replaceChildren();
    const settled = [];
    const view = new MarkdownView(place, { onSettled: (words) => settled.push(words) });
    for (let end = step; end < text.length; end += step) view.show(text.slice(0, end));
    view.finish(text);
    return [place.innerHTML, place.textContent, settled];
}"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """The files of static/ and nothing else: whoever asks for anything more is caught."""
    with running_chromium() as browser:
        page = browser.new_page()
        page.route("**/*", lambda route: _serve(route))
        page.goto("http://page.example/")
        yield page
        browser.contexts[0].close()


def _serve(route) -> None:
    path = route.request.url.removeprefix("http://page.example/")
    if route.request.url.startswith("http://page.example/static/"):
        return route.fulfill(body=(STATIC.parent / path).read_bytes(), content_type="text/javascript")
    if path == "":
        return route.fulfill(body=BLANK, content_type="text/html")
    ASKED.append(route.request.url)
    return route.abort()


ASKED: list[str] = []


def show(page: Page, text: str, *, step: int = 10**9) -> tuple[str, str, list[str]]:
    """HTML and text of what is shown, and the blocks that were told. `step`: how many characters come at a time."""
    return tuple(page.evaluate(SHOW, [text, step]))


HOSTILE = [
    f'<img src={EVIL}/x.png onerror="window.isHurt=1">',
    "<script>window.isHurt=1</script>",
    f"<style>@import '{EVIL}'; * {{ display: none }}</style>",
    f"<iframe src={EVIL}></iframe><object data={EVIL}></object><svg onload=window.isHurt=1></svg>",
    "[a](javascript:window.isHurt=1) [b](JaVaScRiPt:1) [c](&#106;avascript:1) [d](data:text/html,<b>x</b>) [e](vbscript:1)",
    "<javascript:alert(1)> [x]: javascript:1\n\n[x]",
    f"![picture]({EVIL}/p.png) ![d](data:image/png;base64,AAAA) ![j](javascript:1)",
    "[logout](/logout) [rel](admin/) [host](http://page.example/admin/) [slashes](//evil.example/a)",
    "`<b>` **<i onclick=x>** ~~<u>~~\n\n| <b>a</b> |\n|---|\n| <script>1</script> |",
    "```html onmouseover=x\n<script>window.isHurt=1</script>",
    "&lt;script&gt;window.isHurt=1&lt;/script&gt; &#60;b&#62; &amp;lt;",
    "> " * 500 + "deep",
    "- " * 300 + "deep",
    "<a href='javascript:1' style='position:fixed'>x</a><form action=http://evil.example><input></form>",
    '[a](http://x.example/"onmouseover="window.isHurt=1)',
    "<!-- <img src=x onerror=1> --> <![CDATA[x]]> <?php 1 ?>",
]
ALLOWED = """() => [...document.querySelectorAll("#place *")].filter((each) =>
    !"P H3 H4 H5 H6 UL OL LI STRONG EM DEL CODE PRE DIV SPAN BR HR BLOCKQUOTE TABLE THEAD TBODY TR TH TD A".split(" ").includes(each.tagName)
    || [...each.attributes].some(({ name }) => !["class", "href", "title", "target", "rel", "start", "tabindex", "style"].includes(name))
    || (each.tagName === "A" && !/^(https?|mailto):/.test(each.getAttribute("href")))
    || (each.tagName === "A" && each.href.startsWith("http://page.example"))).map((each) => each.outerHTML)"""


@pytest.mark.parametrize("step", [10**9, 1], ids=["whole", "by-character"])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_that_a_model_writes_becomes_more_than_text(page: Page, text: str, step: int) -> None:
    ASKED.clear()
    show(page, text, step=step)
    assert page.evaluate(ALLOWED) == []
    assert page.evaluate("window.isHurt === undefined") and ASKED == []
    assert page.evaluate("document.querySelectorAll('#place [style]:not([style^=text-align])').length") == 0


def test_markdown_is_shown_as_it_is_meant(page: Page) -> None:
    html, _, _ = show(
        page, "# Title\n\nSome *em*, **strong**, `a<b` and ~~no~~.\nNext\n\n3. x\n4. y\n   - [x] z\n\n---\n"
    )
    assert html == (
        "<h3>Title</h3><p>Some <em>em</em>, <strong>strong</strong>, <code>a&lt;b</code> and <del>no</del>.<br>Next</p>"
        '<ol start="3"><li>x</li><li>y<ul><li>☑ z</li></ul></li></ol><hr>'
    )
    html, _, _ = show(page, "[a](https://a.example) <https://b.example>\n\n| h | r |\n|:-|-:|\n| 1 | **2** |")
    assert html.count('rel="noopener noreferrer nofollow"') == 2 and 'target="_blank"' in html
    assert '<td style="text-align: right;"><strong>2</strong></td>' in html
    assert show(page, "a &amp; b &lt;i&gt; &nosuch; AT&T")[1] == "a & b <i> &nosuch; AT&T"
    assert "Picture: cat" in show(page, "![cat](https://a.example/cat.png)")[1]


def test_a_code_block_grows_while_its_fence_is_open_and_keeps_its_place(page: Page) -> None:
    html, _, _ = show(page, "Look:\n\n```python\nprint('<b>')\nx", step=3)
    assert "<span>python</span>" in html and "<code>print('&lt;b&gt;')\nx</code>" in html
    kept = page.evaluate("""async () => {
        const { MarkdownView } = await import("/static/web/chat_markdown.js");
        const place = document.getElementById("place");
        place.replaceChildren();
        const view = new MarkdownView(place);
        view.show("One\\n\\n```\\na");
        const before = [...place.children];
        view.show("One\\n\\n```\\na\\nb");
        return before.every((each, index) => place.children[index] === each);
    }""")
    assert kept


MIXED = """# Title

A paragraph with *two*
lines, and `code`.

Setext
======
- a

- b

  c
    - d

1. x\r
2. y\r
\r
> quote
lazy

```py
def f():

    return 1
```
| a | b |
|---|---|
| 1 | 2 |

<b>html</b>

    indented

***

The *end"""


@pytest.mark.parametrize("step", [1, 7, 64])
def test_a_text_that_grows_ends_as_one_that_is_whole(page: Page, step: int) -> None:
    for text in (MIXED, MIXED * 2, f"See [r].\n\n{MIXED}*\n\n[r]: https://r.example\n"):
        whole, grown = show(page, text), show(page, text, step=step)
        assert grown[0] == whole[0]
    assert 'href="https://r.example"' in grown[0]


def test_whole_blocks_are_told_once(page: Page) -> None:
    assert show(page, "One\n\nTwo\n\nThree", step=1)[2] == ["One", "Two", "Three"]


def test_a_long_answer_stays_smooth(page: Page) -> None:
    """What a frame costs must not grow with the answer."""
    text = "A paragraph of *some* words with `code` in it.\n\n" * 4000
    took = page.evaluate(
        """async (text) => {
            const { MarkdownView } = await import("/static/web/chat_markdown.js");
            const place = document.getElementById("place");
            place.replaceChildren();
            const view = new MarkdownView(place);
            const times = [];
            for (let end = 400; end < text.length; end += 400) {
                const began = performance.now();
                view.show(text.slice(0, end));
                times.push(performance.now() - began);
            }
            return times.slice(-50).reduce((sum, each) => sum + each, 0) / 50;
        }""",
        text,
    )
    assert took < 8, f"{took} ms a frame"


def test_an_endless_line_and_deep_nesting_end_soon(page: Page) -> None:
    for text in ("a" * 300_000, ">" * 20_000, "[" * 20_000, "*" * 20_000, "|" * 20_000, "`" * 20_001):
        assert len(show(page, text)[1].strip()) > 0 or set(text) <= {">", "*"}


HEAR = """async (parts) => {
    const { hear } = await import("/static/web/chat_api.js");
    const heard = [];
    const stream = new ReadableStream({
        start(controller) {
            parts.forEach((part) => controller.enqueue(new Uint8Array(part)));
            controller.close();
        },
    });
    await hear(stream, (data) => heard.push(data));
    return heard;
}"""


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_events_are_read_however_their_bytes_are_cut(page: Page, size: int) -> None:
    told = [json.dumps({"text": "naïve 😀 ✓"}, ensure_ascii=False), "[DONE]"]
    stream = f": loading reading 1.2 GB of 3.0 GB\n\ndata: {told[0]}\r\n\r\n:\n\nevent: x\ndata:{told[1]}\n\n".encode()
    parts = [list(stream[at : at + size]) for at in range(0, len(stream), size)]
    assert page.evaluate(HEAR, parts) == told


def test_chats_are_kept_within_limits_and_the_newest_stays(page: Page) -> None:
    kept = page.evaluate("""async () => {
        const { fit } = await import("/static/web/chat_store.js");
        const chat = (id, length) => ({ id, messages: [{ content: "x".repeat(length) }] });
        const many = fit(Array.from({ length: 60 }, (_, id) => chat(id, 10)));
        const large = fit([chat("a", 3_000_000), chat("b", 10)]);
        return [many.length, large.map(({ id }) => id)];
    }""")
    assert kept == [50, ["a"]]


def test_unanswered_questions_become_one_and_empty_answers_are_left_out(page: Page) -> None:
    turns = page.evaluate("""async () => {
        const { messagesFor } = await import("/static/web/chat_run.js");
        const says = (role, content) => ({ role, content, stats: {} });
        return messagesFor("Be short.", [says("user", "a"), says("assistant", ""), says("user", "b"), says("assistant", "c")]);
    }""")
    assert [(turn["role"], turn["content"]) for turn in turns] == [
        ("system", "Be short."),
        ("user", "a\n\nb"),
        ("assistant", "c"),
    ]
