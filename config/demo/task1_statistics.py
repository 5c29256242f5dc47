import pandas as pd

sales = pd.read_csv("sales.csv")
print(f"{len(sales)} rows, {sales['month'].min()} to {sales['month'].max()}")
print(f"Total revenue {sales['revenue'].sum():,.2f} from {sales['units'].sum():,} units")

by_month = sales.groupby("month")["revenue"].sum()
print(f"Best month {by_month.idxmax()} with {by_month.max():,.2f}")

by_region = (
    sales.groupby("region")
    .agg(units=("units", "sum"), revenue=("revenue", "sum"))
    .sort_values("revenue", ascending=False)
    .assign(share=lambda table: (table["revenue"] / table["revenue"].sum() * 100).round(1))
)
by_region
