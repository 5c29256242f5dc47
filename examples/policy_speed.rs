//! How long the policy takes for 100 KB of code: `cargo run --release --example policy_speed`.

use std::time::Instant;

use heddle::policy::{Policy, risks};

const SIZE: usize = 100 << 10;
const RUNS: usize = 101;

fn main() {
    let demo = [
        include_str!("../config/demo/task1_statistics.py"),
        include_str!("../config/demo/task2_plot.py"),
    ]
    .concat();
    let functions: String = (0..200)
        .map(|i| {
            format!(
                "def step_{i}(table, limit=3):\n    part = table[table['x'] > limit].groupby('y')['z'].agg(['mean', 'sum'])\n    return {{name: part[name].round(2) for name in part.columns}}\n\n"
            )
        })
        .collect();
    let attacks = "c = pd.io.common\nc.os.system('ls')\nf = eval\nx['__globals__']\ndf.query('@c.os.system(1)')\n".to_owned();
    for (name, unit) in [
        ("scripts", demo),
        ("functions", functions),
        ("attacks", attacks),
    ] {
        let code = unit.repeat(SIZE / unit.len() + 1);
        let policy = Policy::default();
        let mut times: Vec<_> = (0..RUNS)
            .map(|_| {
                let started = Instant::now();
                std::hint::black_box(policy.check(&code));
                started.elapsed()
            })
            .collect();
        times.sort();
        let count = policy.check(&code).len();
        println!(
            "{name}: {} KB, median {:.2?}, worst {:.2?}; {count} findings, {} risks",
            code.len() >> 10,
            times[RUNS / 2],
            times[RUNS - 1],
            risks(None, &code).len()
        );
    }
}
