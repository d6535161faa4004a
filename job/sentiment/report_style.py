"""The report's style sheet: light and dark, on a phone, on paper."""

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d232b; --soft: #5b6672;
  --line: #dde2e8; --tile: #f4f6f9; --praise: #2b6cb8; --pan: #d9772b; --accent: #2b6cb8; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181e; --ink: #e4e8ed; --soft: #9aa6b4;
  --line: #323b46; --tile: #1d232b; --praise: #6aa7ea; --pan: #ef9a55; --accent: #6aa7ea; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; margin: 0 auto;
  padding: 2rem 1.25rem 3rem; max-width: 1000px; color: var(--ink); background: var(--paper); }
h1 { font-size: clamp(1.5rem, 4.5vw, 2.1rem); line-height: 1.2; margin: .2rem 0 .7rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; }
h3 { font-size: .95rem; margin: .4rem 0; }
p { margin: .5rem 0; max-width: 75ch; }
.above, .note, figcaption, summary { color: var(--soft); font-size: .9rem; }
.above { margin: 0; }
.lead { font-size: 1.1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(145px, 1fr)); gap: .8rem;
  margin: 1.4rem 0; padding: 0; list-style: none; }
.tiles li { background: var(--tile); border-radius: 8px; padding: .7rem .9rem; }
.tiles b { display: block; font-size: 1.45rem; font-variant-numeric: tabular-nums; }
.tiles span { display: block; color: var(--soft); font-size: .85rem; line-height: 1.35; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr));
  gap: 1.2rem 2rem; }
figure { margin: 0; min-width: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .95rem; }
td, th { padding: .35rem 1.2rem .35rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); font-size: .85rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.number { white-space: normal; vertical-align: bottom; }
.facts th { white-space: nowrap; } .facts td { overflow-wrap: anywhere; }
tr.ours td { font-weight: 600; }
.strip { display: block; width: min(260px, 40vw); height: 1.1rem; }
.strip .all { fill: var(--tile); } .strip .span { fill: var(--accent); opacity: .4; }
.strip .at { fill: var(--accent); }
.confusion td { text-align: center; border: 3px solid var(--paper); padding: .9rem 1.4rem;
  min-width: 7.5rem; }
.confusion th { border: 0; vertical-align: middle; }
.confusion td b { display: block; font-size: 1.3rem; }
.right { background: color-mix(in srgb, var(--accent) 24%, var(--paper)); }
.wrong { background: color-mix(in srgb, var(--pan) 24%, var(--paper)); }
blockquote { margin: .2rem 0; } .mistake { border-left: 3px solid var(--line);
  padding: .1rem 0 .1rem .9rem; margin: 1rem 0; break-inside: avoid; }
.mistake.praise { border-color: var(--praise); } .mistake.pan { border-color: var(--pan); }
pre { background: var(--tile); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto;
  font: .9rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .85rem;
  color: var(--soft); }
.key { display: inline-block; width: .9rem; height: .7rem; margin-right: .4rem; }
.key.praise { background: var(--praise); } .key.pan { background: var(--pan); }
.key.training, .key.validation, .key.kept, .key.ideal { height: 0; border-top: 3px solid;
  vertical-align: middle; }
.key.training { border-color: var(--soft); } .key.validation { border-color: var(--accent); }
.key.kept, .key.ideal { border-top: 2px dashed var(--soft); }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--line); } svg .base { stroke: var(--soft); }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .line.training { stroke: var(--soft); stroke-width: 1.5; }
svg .line.validation { stroke: var(--accent); }
svg .dot.training { fill: var(--soft); } svg .dot.validation { fill: var(--accent); }
svg .small { r: 2.5px; }
svg .dot.ring { r: 7px; fill: none; stroke: var(--accent); stroke-width: 2; pointer-events: all; }
svg .bar.praise { fill: var(--praise); } svg .bar.pan { fill: var(--pan); }
svg .bar.plain { fill: var(--accent); opacity: .75; }
svg .whisker { stroke: var(--ink); stroke-width: 1.5; }
svg .kept, svg .ideal { stroke: var(--soft); stroke-dasharray: 4 4; }
@media (max-width: 600px) { svg text { font-size: 14px; } td, th { padding-right: .8rem; }
  .facts th, .facts td { display: block; border: 0; padding: .1rem 0; }
  .facts td { border-bottom: 1px solid var(--line); padding-bottom: .5rem; } }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #444;
  --line: #bbb; --tile: #f2f2f2; --praise: #2b6cb8; --pan: #d9772b; --accent: #2b6cb8; }
  body { max-width: none; padding: 0; font-size: 11pt; print-color-adjust: exact;
  -webkit-print-color-adjust: exact; } .strip { width: 180px; }
  .pair { grid-template-columns: 1fr 1fr; } figure, tr, .tiles { break-inside: avoid; }
  h2 { break-after: avoid; } pre { white-space: pre-wrap; }
  details::details-content { content-visibility: visible; block-size: auto; } }
"""
