"""The page around a report: one HTML file that needs nothing else, light and dark, wide and narrow."""

import unicodedata
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape

LONG = 24
"""Characters beyond which a cell is a sentence, and may be broken."""
STYLE = """
:root{color-scheme:light dark;--page:#fbfbfa;--card:#fff;--ink:#1c1e21;--soft:#5d646d;--line:#e2e4e8;--grid:#e9ebee;
--one:#2563a8;--two:#b4540a;--three:#2f7d4f;--bad:#b3261e;--shade:#f1f3f5;
--mono:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
@media(prefers-color-scheme:dark){:root{--page:#131518;--card:#1b1e22;--ink:#e8eaed;--soft:#a2a9b3;--line:#32373e;
--grid:#2a2f35;--one:#7ab3f0;--two:#f0a35e;--three:#79cf9b;--bad:#ff8a80;--shade:#24282d}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
@media(prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;overflow-wrap:anywhere}
header,main,footer{max-width:1120px;margin:0 auto;padding:0 20px}
header{padding-top:36px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:1.2rem;margin:0 0 4px;letter-spacing:-.005em}
h3{font-size:.95rem;margin:0 0 8px}
p{margin:0 0 12px;max-width:72ch}
a{color:var(--one)}
.soft,figcaption{color:var(--soft);font-size:.9rem}
.skip{position:absolute;left:-999px}.skip:focus{left:12px;top:12px;background:var(--card);padding:8px}
nav ul{display:flex;flex-wrap:wrap;gap:4px 16px;list-style:none;margin:14px 0 0;padding:0;font-size:.9rem}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:20px;margin:20px 0}
figure{margin:0;min-width:0}
figcaption{margin-top:6px}
svg,img{display:block;max-width:100%}
svg{width:100%;height:auto}
.row{display:grid;gap:24px;grid-template-columns:repeat(auto-fit,minmax(min(300px,100%),1fr));margin-top:12px}
.split{display:grid;gap:24px;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));margin-top:12px}
.scroll{overflow-x:auto}.scroll+p,.split+p,.row+p,.split+.scroll,.row+.scroll{margin-top:12px}
.tiles{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,minmax(124px,1fr));margin-top:12px}
.tiles figure{font-size:.82rem;line-height:1.35}
.tiles img,.pair img{width:100%;background:var(--shade);border-radius:4px}
.tiny{image-rendering:pixelated}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:6px}
.pairs{display:grid;gap:18px;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));margin-top:12px}
.figures{display:grid;gap:16px 20px;grid-template-columns:repeat(auto-fit,minmax(120px,1fr));margin:8px 0 0}
.figures+.scroll,.scroll+.scroll{margin-top:16px}
.figures dt{color:var(--soft);font-size:.85rem}
.figures dd{margin:0;font-size:1.35rem;font-weight:600;line-height:1.25;font-variant-numeric:tabular-nums}
.figures dd.first{font-size:2.1rem}
.figures small{display:block;font-size:.8rem;font-weight:400;color:var(--soft)}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums;overflow-wrap:break-word}
caption{text-align:left;color:var(--soft);padding-bottom:6px;max-width:calc(100vw - 54px)}
th,td{padding:4px 10px 4px 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600}tbody th{font-weight:400}
th,td{max-width:40ch}
.right{text-align:right;white-space:nowrap}.long{white-space:normal;min-width:16ch}
pre{margin:8px 0 0;padding:12px 14px;background:var(--shade);border-radius:6px;overflow-x:auto;font:.82rem/1.5 var(--mono);
overflow-wrap:normal}
code{font-family:var(--mono);font-size:.9em}
details{margin-top:10px}summary{cursor:pointer;color:var(--one)}
.missing{border-left:3px solid var(--two);padding:6px 12px;background:var(--shade);border-radius:0 6px 6px 0}
.wrong{color:var(--bad)}.name{font-weight:600}.file{color:var(--soft)}
.scale{width:150px;height:9px;border-radius:2px;display:inline-block;vertical-align:middle;margin:0 6px;
background:linear-gradient(90deg,#440154,#414487,#2a788e,#22a884,#7ad151,#fde725)}
.mosaic{width:min(100%,420px)}
.mosaics{display:grid;gap:20px;grid-template-columns:repeat(auto-fit,minmax(min(400px,100%),1fr));margin-top:12px}
svg .axis{font:11px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;fill:var(--soft)}
svg .count{font:11px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;fill:var(--ink)}svg .on{fill:var(--card)}
svg .grid{stroke:var(--grid);fill:none}svg .frame{fill:none;stroke:var(--line)}
svg .ideal{stroke:var(--soft);stroke-dasharray:4 4;fill:none}
svg .line-1,svg .line-2,svg .line-3{fill:none;stroke-width:1.8;stroke-linejoin:round}
svg .line-1{stroke:var(--one)}svg .line-2{stroke:var(--two)}svg .line-3{stroke:var(--three)}
svg .mark-1{fill:var(--one)}svg .mark-2{fill:var(--two)}svg .mark-3{fill:var(--three)}
svg .faint{stroke-width:1;opacity:.3}
svg .hit{fill:var(--one)}svg .miss{fill:var(--two)}svg .bar{fill:var(--one)}svg .gap{fill:var(--two);opacity:.45}
svg .spare{fill:var(--one);opacity:.4}
footer{padding-bottom:40px;color:var(--soft);font-size:.85rem}
@media(max-width:520px){header,main,footer{padding-left:12px;padding-right:12px}section{padding:16px 14px}
header{padding-top:20px}.tiles{grid-template-columns:repeat(auto-fill,minmax(92px,1fr));gap:10px}
.pairs{grid-template-columns:1fr 1fr;gap:12px}.figures{grid-template-columns:1fr 1fr}}
@media print{nav,.skip{display:none}section{break-inside:avoid;border:0;padding:0}}
"""


@dataclass(frozen=True)
class Section:
    """One part of the page."""

    anchor: str
    title: str
    body: str
    """HTML."""


def plain(value: object) -> str:
    """Return text that is safe to show: control and direction characters, and bytes that are no text, become U+FFFD."""
    return "".join("\ufffd" if _hidden(character) else character for character in str(value))


def _hidden(character: str) -> bool:
    if character in "\n\t":
        return False
    return (
        unicodedata.category(character) in ("Cc", "Cs")
        or "\u202a" <= character <= "\u202e"
        or "\u2066" <= character <= "\u2069"
    )


def text(value: object) -> str:
    """Escape anything for HTML, and hide what `plain` hides."""
    return escape(plain(value))


def paragraph(words: str) -> str:
    """Return explaining words, not yet escaped, as a paragraph."""
    return f'<p class="soft">{text(words)}</p>'


def missing(what: str, why: str) -> str:
    """Say what is not there, and why."""
    return f'<p class="missing"><strong>{text(what)}</strong> {text(why)}</p>'


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]], words: int = 1) -> str:
    """Return a table; the first `words` columns hold words, the others numbers. Cells are escaped."""
    top = "".join(f'<th scope="col"{_side(place, words, head)}>{text(head)}</th>' for place, head in enumerate(heads))
    body = ""
    for row in rows:
        cells = [f'<th scope="row">{text(row[0])}</th>']
        cells += [f"<td{_side(place, words, cell)}>{text(cell)}</td>" for place, cell in enumerate(row[1:], start=1)]
        body += f"<tr>{''.join(cells)}</tr>"
    return (
        f'<div class="scroll"><table><caption>{text(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _side(place: int, words: int, cell: object) -> str:
    """Return the class of a cell: numbers stand on the right and aren't broken, unless they are a sentence."""
    if place < words:
        return ""
    return ' class="right"' if len(str(cell)) <= LONG else ' class="right long"'


def figure(drawing: str, caption: str, title: str = "") -> str:
    """Return a drawing (HTML) with its caption."""
    head = f"<h3>{text(title)}</h3>" if title else ""
    return f"<figure>{head}{drawing}<figcaption>{text(caption)}</figcaption></figure>"


def picture(source: str, alternative: str, tiny: bool = False, kind: str = "") -> str:
    """Return an image; `source` is a data URI, `tiny` enlarges without blur."""
    names = " ".join(filter(None, ("tiny" if tiny else "", kind)))
    attribute = f' class="{names}"' if names else ""
    return f'<img{attribute} src="{source}" alt="{text(alternative)}" loading="lazy">'


def page(title: str, lead: str, sections: Sequence[Section], foot: str, style: str = "", script: str = "") -> bytes:
    """Return the whole file. `lead` and `foot` are HTML; `style` is added to the page's own.

    A script, if there is one, is the only one that a browser may run: the page names its hash.
    """
    allowed = f";script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" if script else ""
    runs = f"<script>{script}</script>\n" if script else ""
    skip = f'<a class="skip" href="#{sections[0].anchor}">Skip to the results</a>' if sections else ""
    links = "".join(f'<li><a href="#{one.anchor}">{text(one.title)}</a></li>' for one in sections)
    parts = "".join(
        f'<section id="{one.anchor}" aria-labelledby="{one.anchor}-title"><h2 id="{one.anchor}-title">'
        f"{text(one.title)}</h2>{one.body}</section>\n"
        for one in sections
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';img-src data:;style-src 'unsafe-inline'"
        f'{allowed}">\n<title>{text(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n'
        f"{skip}\n"
        f'<header><h1>{text(title)}</h1>{lead}<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f"<main>\n{parts}</main>\n<footer>{foot}</footer>\n{runs}</body>\n</html>\n"
    ).encode()
