# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the report looks: one style sheet and the signs, both part of the page; no font, script or picture comes from elsewhere.

Every tone has a colour and a sign of its own shape, so that the page can be read without colours. Text colours keep a
contrast of 4.5 : 1 or more on their ground, light and dark.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

#: Tone -> path of its sign in a 16 x 16 box.
SIGNS: dict[str, str] = {
    "missing": "M8 1.6 15.2 14.4H.8zM7.2 6v4.2h1.6V6zm0 5.4V13h1.6v-1.6z",
    "disabled": "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zM5 4.6h2.1v6.8H5zm3.9 0H11v6.8H8.9z",
    "conflicting": "M3.2 1.6 8 6.4l4.8-4.8 1.6 1.6L9.6 8l4.8 4.8-1.6 1.6L8 9.6l-4.8 4.8-1.6-1.6L6.4 8 1.6 3.2z",
    "unknown": (
        "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zM7.2 10.9h1.7v1.7H7.2zm1.7-1H7.2c0-2.6 2-2.4 2-3.9 0-.7-"
        ".5-1.1-1.2-1.1S6.7 5.4 6.7 6.1H5C5 4.4 6.2 3.4 8 3.4s3 .9 3 2.5c0 2-2.1 2.2-2.1 4z"
    ),
    "blocked": "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zM3.6 7h8.8v2H3.6z",
    "unsupported": "M2 2h12v12H2zm1.8 1.8v8.4h8.4V3.8zM7.1 5h1.8v6H7.1z",
    "leftover": "M8 1 15 8 8 15 1 8zm0 3.2L4.2 8 8 11.8 11.8 8z",
    "applied": "M6.3 13.3 1 8l1.9-1.9 3.4 3.4 6.8-6.8L15 4.6z",
    "kept": "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zM6.9 11.6 3.6 8.3 5 6.9l1.9 1.9L11 4.7l1.4 1.4z",
    "idle": "M2 6.9h12v2.2H2z",
    "differs": "M2 4h7v2H2zm9.5-1.5L15 5l-3.5 2.5zM14 10H7v2h7zM4.5 8.5 1 11l3.5 2.5z",
}

#: What a bucket of servers looks like: bucket -> tone.
TONE_OF_BUCKET: dict[str, str] = {
    "action": "missing",
    "unknown": "unknown",
    "differs": "differs",
    "blocked": "blocked",
    "cleanup": "leftover",
    "applied": "applied",
    "kept": "kept",
    "idle": "idle",
}

STYLE = """
:root{color-scheme:light dark;
--bg:#f4f6f8;--card:#fff;--ink:#15202e;--soft:#556273;--line:#dde3ea;--head:#10243e;--headink:#f2f6fb;--headsoft:#a9bbd0;--focus:#1d5fd1;
--bad:#c6281c;--badbg:#fdecea;--badink:#9d1c12;--warn:#d97b06;--warnbg:#fdf1dc;--warnink:#7d4600;
--good:#0e8a7d;--goodbg:#dcf3ef;--goodink:#0a5d54;--tidy:#7557e6;--tidybg:#eeeafd;--tidyink:#4c32ad;
--note:#2b6fd6;--notebg:#e5effd;--noteink:#1d4c97;--gone:#68778a;--gonebg:#e9edf1;--goneink:#3c4858;--calm:#b6c1cd;--calmbg:#f1f4f7;--calmink:#526071}
@media (prefers-color-scheme:dark){:root{
--bg:#0d141d;--card:#151f2b;--ink:#e6edf5;--soft:#9badc0;--line:#2a3746;--head:#0a1727;--headink:#f2f6fb;--headsoft:#9db1c8;--focus:#7db1ff;
--bad:#f0695d;--badbg:#3d1b1a;--badink:#ffb3ab;--warn:#eda33b;--warnbg:#3a2a10;--warnink:#ffd08a;
--good:#2fb8a6;--goodbg:#0f332f;--goodink:#84e3d5;--tidy:#a08bf5;--tidybg:#292147;--tidyink:#cfc4ff;
--note:#6aa5f8;--notebg:#182c4b;--noteink:#b3d1ff;--gone:#8797aa;--gonebg:#263240;--goneink:#c9d4e0;--calm:#43546a;--calmbg:#1b2633;--calmink:#9fb0c2}}
*{box-sizing:border-box}
html{scroll-padding-top:4.5rem}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
a{color:inherit}
a:focus-visible,summary:focus-visible,input:focus-visible+label,.scroll:focus-visible{outline:3px solid var(--focus);outline-offset:2px;border-radius:4px}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:1rem;background:var(--card);padding:.5rem 1rem;z-index:9}
header{background:var(--head);color:var(--headink)}
.in{max-width:1240px;margin:0 auto;padding:0 1.5rem}
header .in{padding-top:2.1rem;padding-bottom:4.2rem}
.over{margin:0;color:var(--headsoft);font-size:.8rem;letter-spacing:.09em;text-transform:uppercase}
h1{margin:.25rem 0 .5rem;font-size:1.95rem;line-height:1.2;letter-spacing:-.015em;font-weight:650}
.meta{margin:0;color:var(--headsoft);display:flex;flex-wrap:wrap;gap:.2rem 1.5rem;font-size:.9rem}
.meta b{color:var(--headink);font-weight:550}
main.in{margin-top:-2.7rem}
section{margin:0 0 1.4rem;background:var(--card);border:1px solid var(--line);border-radius:14px;padding:1.3rem 1.4rem 1.4rem}
h2{margin:0 0 .9rem;font-size:1.12rem;letter-spacing:-.005em;font-weight:650}
h2 small,h3 small{font-weight:400;color:var(--soft);font-size:.85rem;margin-left:.5rem;letter-spacing:0}
.sprite{position:absolute}
.sign{width:1em;height:1em;fill:currentColor;flex:none;vertical-align:-.12em}
svg.stack{width:100%;height:.8rem;border-radius:99px;display:block;background:var(--line);margin:0 0 1.1rem}
.counts{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.6rem,1fr));gap:.8rem;margin:0 0 1.2rem;padding:0;list-style:none}
.counts li{display:flex;flex-direction:column;gap:.1rem;border-left:4px solid var(--t);padding:.1rem 0 .1rem .8rem}
.counts b{font-size:2.1rem;line-height:1.1;font-weight:650;letter-spacing:-.02em;display:flex;align-items:center;gap:.5rem}
.counts b .sign{font-size:1.15rem;color:var(--t)}
.counts span{color:var(--soft);font-size:.86rem;line-height:1.3}
.counts .zero b{color:var(--soft);font-weight:450}
.fleet{display:flex;flex-wrap:wrap;gap:.55rem;margin:0;padding:0;list-style:none}
.fleet:not(.many){display:grid;grid-template-columns:repeat(auto-fill,minmax(min(18rem,100%),1fr))}
.fleet:not(.many) a{height:100%}
.fleet a{display:flex;align-items:center;gap:.65rem;text-decoration:none;background:var(--tb);color:var(--ti);border-radius:9px;
padding:.5rem .9rem .5rem .7rem;border:1px solid transparent}
.fleet a:hover{border-color:var(--t)}
.fleet a .sign{font-size:1.2rem;color:var(--t)}
.fleet b{display:block;line-height:1.2;font-weight:620;overflow-wrap:anywhere}
.fleet small{display:block;font-size:.8rem;line-height:1.3}
.many{gap:4px}
.many a{width:1.65rem;height:1.65rem;padding:0;border-radius:5px;justify-content:center;background:var(--tb)}
.many a .sign{font-size:.9rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(27rem,100%),1fr));gap:0 1.4rem}
.news{margin:0;padding:0;list-style:none;display:grid;gap:.55rem}
.news>li{display:grid;grid-template-columns:2.6rem 1fr;gap:0 .6rem;align-items:baseline}
.news>li>b{font-size:1.35rem;line-height:1.2;font-weight:650;color:var(--ti);text-align:right}
.news .zero>b{color:var(--soft);font-weight:450}
.news>li>span{font-weight:560}.news .zero>span{font-weight:400;color:var(--soft)}
.news ul{grid-column:2;margin:.1rem 0 .2rem;padding:0;list-style:none;color:var(--soft);font-size:.88rem;overflow-wrap:anywhere}
.bars{display:grid;gap:.85rem;margin:0;padding:0;list-style:none}
.bars li{display:grid;gap:.3rem}
.bars b{font-weight:620;margin-right:.6rem}.bars small{color:var(--soft);line-height:1.3;font-size:.86rem}
.bars svg.bar{width:100%;height:1.15rem;border-radius:6px;display:block;background:var(--line)}
.bars .key{display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;font-size:.84rem;color:var(--soft);}
.key i{font-style:normal;display:inline-flex;align-items:center;gap:.35rem}.key .sign{color:var(--t)}
.bar rect,.stack rect{fill:var(--t)}
.time{display:grid;grid-template-columns:auto 1fr;gap:0 .9rem;margin:0 0 .8rem}
.lanes span{display:block;height:30px;line-height:30px;font-size:.84rem;color:var(--soft);white-space:nowrap}
.plot{display:block;overflow:visible}
.plot .lane{stroke:var(--line);stroke-width:2}.plot .grid{stroke:var(--line);stroke-dasharray:2 4}
.plot .tick{fill:var(--soft);font-size:12px;text-anchor:middle}.plot .end{text-anchor:end}
.plot .mark{fill:var(--t);stroke:var(--card);stroke-width:1.5}
.log{list-style:none;margin:0;padding:0;font-size:.92rem}
.log li{display:grid;grid-template-columns:10.6rem 1rem 1fr;gap:.6rem;align-items:baseline;padding:.22rem 0}
.log .sign{color:var(--t)}.log time{color:var(--soft);font-variant-numeric:tabular-nums;font-size:.88rem}.log small{color:var(--soft)}
details.older summary{padding:.4rem .1rem;color:var(--soft);font-size:.88rem}
.scroll{overflow-x:auto;margin:0 -.4rem;padding:0 .4rem}
.tall{max-height:min(78vh,60rem);overflow:auto;padding:0}
.tall thead th{position:sticky;top:0;background:var(--card);z-index:2}
.tall thead th:first-child{left:0;z-index:3}.tall tbody th,.tall thead th:first-child{padding-left:.5rem}
table{border-collapse:separate;border-spacing:0;width:100%;font-size:.92rem}
caption{text-align:left;color:var(--soft);font-size:.86rem;padding:0 0 .6rem}
th,td{text-align:left;padding:.5rem .7rem;border-bottom:1px solid var(--line);vertical-align:top}
thead th{font-size:.8rem;color:var(--soft);font-weight:600;vertical-align:bottom;border-bottom:2px solid var(--line);white-space:nowrap}
thead th small{display:block;font-weight:400}
tbody tr:last-child>*{border-bottom:0}
tbody th{font-weight:600}
tbody th small,td small{display:block;font-weight:400;color:var(--soft);font-size:.82rem;line-height:1.35}
.matrix tbody tr:hover>*{background:var(--calmbg)}
.matrix tbody th{position:sticky;left:0;background:var(--card);min-width:11rem}
.chip{display:inline-flex;align-items:center;gap:.4rem;background:var(--tb);color:var(--ti);border-radius:99px;padding:.13rem .7rem .13rem .5rem;
font-weight:560;white-space:nowrap;font-size:.87rem}
.chip .sign{color:var(--t);font-size:.85rem}
.filters{display:flex;flex-wrap:wrap;gap:.4rem;border:0;margin:0 0 1rem;padding:0}
.filters legend{float:left;padding:.3rem .6rem .3rem 0;color:var(--soft);font-size:.86rem}
.filters input{position:absolute;opacity:0;pointer-events:none}
.filters label{border:1px solid var(--line);border-radius:99px;padding:.22rem .85rem;font-size:.86rem;cursor:pointer}
.filters input:checked+label{background:var(--ink);color:var(--card);border-color:var(--ink)}
.diff{display:block;white-space:pre-wrap}.diff>*{display:block;text-decoration:none;padding:0 .45rem;border-radius:3px}
.diff del{background:var(--badbg);color:var(--badink)}.diff ins{background:var(--goodbg);color:var(--goodink)}
.diffs{display:grid;gap:.7rem}.diffs small{color:var(--soft);font-size:.82rem;overflow-wrap:anywhere}
.fresh{font-weight:620!important;color:var(--noteink)!important}
FILTERS
.server,.group{border-top:1px solid var(--line)}
h2+.server,h2+.group,.members>.server:first-child{border-top:0}
.group>.members{padding:0 0 .6rem 1.5rem}.tally{font-size:1.05rem;font-weight:620}
.server:has(:target){background:linear-gradient(90deg,var(--notebg),transparent 60%)}
summary{cursor:pointer;display:flex;flex-wrap:wrap;align-items:center;gap:.35rem .9rem;padding:.75rem .2rem;list-style:none}
summary::-webkit-details-marker{display:none}
summary::before{content:"";width:.5rem;height:.5rem;border-right:2px solid var(--soft);border-bottom:2px solid var(--soft);transform:rotate(-45deg);
margin:0 .3rem 0 .25rem;flex:none}
details[open]>summary::before{transform:rotate(45deg)}
summary h3{margin:0;font-size:1rem;font-weight:640;overflow-wrap:anywhere}
.server>summary>.chip,.cells{margin-left:auto}.cells{display:flex;flex-wrap:wrap;gap:.3rem;justify-content:flex-end}
.body{padding:.1rem .2rem 1.3rem 1.6rem;display:grid;gap:1.1rem;scroll-margin-top:5rem}.body>*{min-width:0}
.next{background:var(--tb);border-radius:10px;padding:.75rem 1rem;border-left:4px solid var(--t)}
.next h4,.body h4{margin:0 0 .3rem;font-size:.8rem;text-transform:uppercase;letter-spacing:.06em;color:var(--soft);font-weight:620}
.next h4{color:var(--ti)}
.next ol{margin:0;padding-left:1.15rem}.next li{margin:.12rem 0}.next li::marker{color:var(--ti)}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(12.5rem,1fr));gap:.75rem 1.3rem;margin:0}
dt{color:var(--soft);font-size:.8rem}dd{margin:0;overflow-wrap:anywhere}
code{font:.86em/1.45 ui-monospace,"Cascadia Mono",Consolas,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
.evidence th:first-child{width:15%}.evidence th:nth-child(2){width:17%}.evidence th:nth-child(3){width:19%}
.evidence td{overflow-wrap:anywhere}
.harm{color:var(--badink)}
.evidence code{display:block}
.plain{margin:0;padding-left:1.15rem}
.empty{margin:0;color:var(--soft)}
.legend{display:grid;grid-template-columns:repeat(auto-fill,minmax(21rem,1fr));gap:.5rem 1.4rem;margin:0 0 1rem;padding:0;list-style:none}
.legend li{display:grid;grid-template-columns:8.7rem 1fr;align-items:center;gap:.7rem;color:var(--soft);font-size:.88rem}
footer{color:var(--soft);font-size:.87rem;padding:.2rem 0 2.6rem}
.t-missing,.t-disabled,.t-conflicting{--t:var(--bad);--tb:var(--badbg);--ti:var(--badink)}
.t-blocked{--t:var(--warn);--tb:var(--warnbg);--ti:var(--warnink)}
.t-differs,.t-unsupported{--t:var(--note);--tb:var(--notebg);--ti:var(--noteink)}
.t-leftover{--t:var(--tidy);--tb:var(--tidybg);--ti:var(--tidyink)}
.t-applied,.t-kept{--t:var(--good);--tb:var(--goodbg);--ti:var(--goodink)}
.t-unknown{--t:var(--gone);--tb:var(--gonebg);--ti:var(--goneink)}
.t-idle{--t:var(--calm);--tb:var(--calmbg);--ti:var(--calmink)}
@media (max-width:700px){.in{padding:0 .9rem}section{padding:1rem}.counts{grid-template-columns:1fr 1fr}
.matrix tbody th{min-width:7.5rem}.body{padding-left:.2rem}.group>.members{padding-left:.4rem}
.log li{grid-template-columns:1rem 1fr}.log time{grid-column:1/-1;margin-bottom:-.5rem}.lanes span{font-size:.75rem}.plot .tick{font-size:10px}
.evidence,.drift{min-width:36rem}.legend{grid-template-columns:1fr}}
@media print{@page{margin:14mm 12mm}:root{color-scheme:light}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}body{background:#fff;font-size:10.5pt}
header{background:none;color:#000}header .in{padding:0 0 .6rem}.over,.meta,.meta b{color:#333}main.in{margin:0}.in{max-width:none;padding:0}
section{border:0;padding:.4rem 0;border-radius:0}.filters,.skip{display:none}details,tr,dl div,.next,.bars li{break-inside:avoid}
.few details::details-content{content-visibility:visible;height:auto;block-size:auto}summary::before{display:none}
.scroll,.tall{overflow:visible;max-height:none}.matrix tbody th,.tall thead th,.tall thead th:first-child{position:static}
h2,h3,h4,summary{break-after:avoid}thead{display:table-header-group}.chip{white-space:normal}th,td{padding:.3rem .4rem}.older{display:none}
.bars li,.news>li,.log li{break-inside:avoid}details.server{break-inside:auto}.pair{grid-template-columns:1fr 1fr}}
@media (forced-colors:active){.chip,.fleet a,.counts li{border:1px solid}}
"""


def style(buckets: dict[str, str]) -> str:
    """Return the style sheet, with a rule per filter: a bucket's radio button hides the rows and servers of all others."""
    rules = [f"body:has(#f-{key}:checked) [data-bucket]:not([data-bucket={key}]){{display:none}}" for key in buckets]
    return STYLE.replace("FILTERS", "\n".join(rules))
