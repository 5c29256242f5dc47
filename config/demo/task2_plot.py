import matplotlib.pyplot as plt
import pandas as pd

sales = pd.read_csv("sales.csv")
monthly = sales.pivot_table(index="month", columns="product", values="revenue", aggfunc="sum")
names = dict(zip(sales["product"], sales["product_zh"]))

fig, ax = plt.subplots(figsize=(9, 4.8), layout="constrained")
for product, color in zip(monthly, ["#8c564b", "#e6872e", "#2f7f5f"]):
    values = monthly[product] / 1000
    ax.plot(values.index, values, marker="o", markersize=4, linewidth=2, color=color)
    ax.annotate(
        f"{product} {names[product]}",
        (len(values) - 1, values.iloc[-1]),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        color=color,
    )

ax.set_title("Monthly revenue by product  每月銷售額", loc="left", fontsize=13)
ax.set_ylabel("Revenue, thousands")
ax.set_ylim(bottom=0)
ax.grid(axis="y", alpha=0.25)
ax.spines[["top", "right"]].set_visible(False)
ax.tick_params(axis="x", labelrotation=45)

fig.savefig("revenue.png", dpi=150)
plt.show()
