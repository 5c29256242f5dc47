from html import escape
from pathlib import Path

import pandas as pd

sales = pd.read_csv("sales.csv")
total = sales["revenue"].sum()
by_month = sales.groupby("month")["revenue"].sum()
by_region = sales.groupby("region")["revenue"].sum().sort_values(ascending=False)
by_product = (
    sales.groupby(["product", "product_zh"], as_index=False)[["units", "revenue"]]
    .sum()
    .sort_values("revenue", ascending=False)
)

cards = "".join(
    f"<li><span>{label}</span><strong>{value}</strong><small>{note}</small></li>"
    for label, value, note in [
        ("Revenue", f"{total:,.0f}", f"{by_month.index[0]} to {by_month.index[-1]}"),
        ("Units sold", f"{sales['units'].sum():,}", f"{len(sales)} rows of data"),
        ("Best month", by_month.idxmax(), f"{by_month.max():,.0f}"),
        ("Leading region", escape(by_region.index[0]), f"{by_region.iloc[0] / total:.0%} of revenue"),
    ]
)
bars = "".join(
    f'<li><i style="height:{value / by_month.max():.1%}"></i><b>{value / 1000:.0f}k</b><span>{month[5:]}</span></li>'
    for month, value in by_month.items()
)
rows = "".join(
    f'<tr><th scope="row">{escape(row.product)} <span lang="zh-Hant">{escape(row.product_zh)}</span></th>'
    f"<td>{row.units:,}</td><td>{row.revenue:,.0f}</td><td>{row.revenue / total:.0%}</td></tr>"
    for row in by_product.itertuples()
)

style = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5b6875; --page: #f4f6f8; --card: #fff;
  --line: #dfe5ea; --accent: #2f7f5f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8edf2; --soft: #a3b0bc; --page: #12181f;
  --card: #1b232c; --line: #2d3843; --accent: #5dbb92; } }
* { box-sizing: border-box; margin: 0; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); }
main { max-width: 60rem; margin: auto; padding: clamp(1rem, 4vw, 3rem); display: grid; gap: 1.5rem; }
h1 { font-size: clamp(1.6rem, 5vw, 2.4rem); line-height: 1.2; }
h2 { font-size: 1.1rem; margin-bottom: 1rem; }
p, small, .cards span { color: var(--soft); }
ul, ol { list-style: none; padding: 0; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); }
.cards li, section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.25rem; }
.cards li > * { display: block; }
.cards strong { font-size: 1.7rem; line-height: 1.4; color: var(--accent); }
.chart { display: flex; gap: clamp(.2rem, 1vw, .7rem); }
.chart li { flex: 1; display: grid; grid-template-rows: 12rem auto auto; text-align: center; font-size: .75rem; }
.chart i { align-self: end; background: var(--accent); border-radius: 4px 4px 0 0; }
.chart b { margin-top: .3rem; }
.chart span { color: var(--soft); }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .6rem .4rem; border-top: 1px solid var(--line); text-align: right; }
thead th { border: 0; font-size: .85rem; color: var(--soft); }
th:first-child { text-align: left; }
"""

page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sales report</title>
<style>{style}</style>
</head>
<body>
<main>
<header><h1>Sales report</h1><p>Tea, coffee and juice in three regions.</p></header>
<ul class="cards">{cards}</ul>
<section aria-labelledby="months"><h2 id="months">Revenue by month</h2>
<ol class="chart" role="img" aria-label="Revenue by month, highest in {by_month.idxmax()}, lowest in {by_month.idxmin()}">{bars}</ol></section>
<section aria-labelledby="products"><h2 id="products">Products</h2>
<table><thead><tr><th scope="col">Product</th><th scope="col">Units</th><th scope="col">Revenue</th>
<th scope="col">Share</th></tr></thead><tbody>{rows}</tbody></table></section>
</main>
</body>
</html>
"""
path = Path("report.html")
path.write_text(page, encoding="utf-8")
print(f"Wrote {path} ({len(page):,} characters)")
