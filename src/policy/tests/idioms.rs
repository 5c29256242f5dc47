//! Code as people and models write it. None of it may be found.

use super::*;
use crate::notebook::Notebook;

/// What the default policy lets through.
const IDIOMS: &[&str] = &[
    // pandas
    "import pandas as pd\ndf = pd.read_csv('x.csv', parse_dates=['date'])\ndf.head()",
    "df = pd.DataFrame({'a': [1, 2], 'b': list('xy')})\ndf.describe(include='all')",
    "df.groupby(['a', 'b'])['c'].mean().unstack().plot()",
    "df.groupby('a').agg(total=('b', 'sum'), n=('b', 'size')).sort_values('total', ascending=False)[:5]",
    "df.pivot_table(index='a', columns='b', values='c', aggfunc='sum', fill_value=0)",
    "df = df.assign(share=lambda t: t['a'] / t['a'].sum()).query('share > 0.1')",
    "df.query('open > close and volume > @limit')",
    "df.query('`unit price` > 3 and open > @low')",
    "df.query(f'open > {limit}')",
    "df.eval('a = open + close\\nb = high - low')",
    "for row in df.itertuples():\n    print(row.os, row.sys, row.requests)",
    "matplotlib.use('module://matplotlib_inline.backend_inline')",
    "np.ctypeslib.as_array(x)",
    "df.eval('c = a + b', inplace=True)",
    "pd.eval('df.a + df.b')",
    "df.loc[df['a'].isin([1, 2]) & ~df['b'].isna(), 'c'] = 0",
    "df['open'] = df['close'].shift()\ndf.open.mean()",
    "df['date'] = pd.to_datetime(df['date']).dt.to_period('M').astype(str)",
    "df.apply(lambda row: row['a'] + row['b'], axis=1)",
    "df.merge(other, on='id', how='left', validate='m:1')",
    "pd.concat([df, other], ignore_index=True).drop_duplicates()",
    "df.pipe(lambda t: t[t.a > 0]).to_csv('out.csv', index=False)",
    "df['x'].map({'a': 1}).fillna(0).astype(int)",
    "df.style.format('{:.2f}').background_gradient(cmap='viridis')",
    "for name, group in df.groupby('a'):\n    print(name, len(group))",
    "with pd.ExcelWriter('out.xlsx') as writer:\n    df.to_excel(writer, sheet_name='a')",
    "with pd.option_context('display.max_rows', 5):\n    print(df)",
    "df.select_dtypes('number').corr().round(2)",
    "df['text'].str.extract(r'(\\d+)').astype(float)",
    "df.rolling(7, on='date')['x'].mean()",
    "df.set_index('date').resample('ME')['x'].sum()",
    "print(df.isna().sum().to_string())",
    "df.os.value_counts()",
    "df = pd.read_csv('x.csv')\ndf.os.replace('a', 'b')\ndf.os.rename('c')\ndf.os.truncate(before=2)",
    "df.gzip.sum()\ndf.codecs.unique()\npd.io.formats.style.Styler(df)\npd.io.json.build_table_schema(df)",
    "df.mode().iloc[0]['a']",
    "result = {k: v.mean() for k, v in df.groupby('a')['b']}",
    "pd.read_sql('select 1', connection)",
    "df.explode('a').melt(id_vars='b').rename(columns=str.lower)",
    // numpy and scipy
    "import numpy as np\nrng = np.random.default_rng(7)\nx = rng.normal(size=(100, 3))",
    "np.linalg.svd(x - x.mean(axis=0))[1][:2]",
    "np.poly1d(np.polyfit(x, y, 2))(x)",
    "np.vectorize(lambda v: v ** 2)(x)",
    "np.r_[1:5, 7]",
    "np.load('x.npy')",
    "np.load('x.npz', allow_pickle=False)['a']",
    "np.save('x.npy', x, allow_pickle=True)",
    "np.lib.stride_tricks.sliding_window_view(x, 3)",
    "x.ctypes.data",
    "from scipy import stats\nstats.ttest_ind(a, b, equal_var=False).pvalue",
    "from scipy.interpolate import interp1d\ninterp1d(x, y)(z)",
    "from scipy.optimize import minimize\nminimize(lambda p: ((p - 1) ** 2).sum(), x0=[0, 0]).x",
    "import scipy.signal as signal\nb, a = signal.butter(4, 0.2)",
    "from scipy.io import loadmat\nloadmat('x.mat')",
    "np.where(x > 0, x, np.nan).sum(where=~np.isnan(x))",
    // matplotlib and seaborn
    "import matplotlib.pyplot as plt\nfig, ax = plt.subplots(figsize=(8, 4))\nax.plot(x, y)\nplt.show()",
    "plt.subplots()[1].plot([1, 2])",
    "plt.gca().set_title('open')\nplt.savefig('x.png', dpi=150)",
    "plt.rcParams['font.size'] = 12\nplt.rcParams.update({'axes.grid': True})",
    "plt.rcParams['axes.prop_cycle'].by_key()['color'][0]",
    "import matplotlib\nmatplotlib.use('Agg')",
    "import matplotlib\nbackend = 'Agg'\nmatplotlib.use(backend)",
    "plt.rcParams['backend'] = 'Agg'\nplt.rcParams['font.size'] = size",
    "plt.rcParams.update({'figure.figsize': (8, 4)})\nplt.style.use(style)",
    "np.savetxt('scores.py.csv', a)\ndf.to_csv(f'{name}.csv')\ns.rename('a.py')",
    "df['file'] = df['file'].str.replace('a.py', 'b.py')",
    "from typing import get_args, get_origin, List\nget_args(List[int])",
    "model.evaluate(X, y)",
    "import matplotlib\nmatplotlib.colormaps['viridis'](0.5)",
    "from matplotlib import cm, dates as mdates\nax.xaxis.set_major_formatter(mdates.DateFormatter('%b'))",
    "[ax.bar(i, v) for i, v in enumerate(values)]",
    "for ax, column in zip(axes.flat, df.columns):\n    df[column].hist(ax=ax)",
    "import seaborn as sns\nsns.heatmap(df.corr(), annot=True, fmt='.2f')",
    "sns.FacetGrid(df, col='a').map_dataframe(sns.histplot, x='b')",
    "from matplotlib.path import Path\nPath([(0, 0), (1, 1)])",
    "import matplotlib as mpl\nmpl.path.Path.unit_circle()\nmpl.patches.Path(v)",
    "from matplotlib import patches, path\npatches.PathPatch(path.Path(v))",
    "from matplotlib.animation import FuncAnimation\nFuncAnimation(fig, lambda i: line.set_data(x[:i], y[:i]))",
    // scikit-learn
    "from sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import StandardScaler\nmake_pipeline(StandardScaler(), model).fit(X, y).score(X, y)",
    "from sklearn.datasets import load_iris\nX, y = load_iris(return_X_y=True, as_frame=True)",
    "from sklearn.inspection import permutation_importance\npermutation_importance(model, X, y)",
    "model.compile(optimizer='adam')\nmodel.eval()",
    "type(model)(**model.get_params())",
    "models = {'a': A(), 'b': B()}\nfor name, model in models.items():\n    print(name, model.fit(X, y))",
    "funcs = {'mean': np.mean, 'max': np.max}\nfuncs[kind](x)",
    "steps = [np.sin, np.cos]\nsteps[0](1)",
    "{'a': np.sum, 'b': np.mean}[kind](x)",
    "{'a': np.sum}.get(kind, np.mean)(x)",
    // The language
    "from __future__ import annotations",
    "from datetime import datetime, timedelta\ndatetime.now() - timedelta(days=1)",
    "from typing import Optional\ndef f(x: Optional['DataFrame'] = None) -> 'list[int]': ...",
    "def make(n):\n    def inner(x):\n        return x + n\n    return inner\nmake(1)(2)",
    "class A:\n    def __init__(self, x):\n        super().__init__()\n        self.x = x\n    def __call__(self, y):\n        return y\n    def open(self):\n        return self.x\nA(1)(2)\nA(1).open()",
    "class Window:\n    def __getattr__(self, name):\n        return name\n    def __setattr__(self, name, value):\n        pass",
    "print(type(error).__name__, error.__class__.__name__, f.__name__, np.__version__, f.__doc__)",
    "if __name__ == '__main__':\n    main()",
    "def compile(x):\n    return x\ncompile(1)",
    "def compile(n):\n    return compile(n - 1) if n else 0",
    "def open(path):\n    return pd.read_csv(path)\ndef load():\n    return open('x.csv')",
    "def f(input, vars=()):\n    return input + len(vars)",
    "input = np.arange(3)\nprint(input)",
    "input.mean()",
    "[open for open in prices]",
    "for input in [1, 2]:\n    pass\ndef f():\n    for compile in []:\n        pass\n    return compile",
    "from datetime import datetime as compile\ncompile.now()",
    "s = 'open(\"x\"), eval, !ls, import os, %run, __class__'",
    "# eval('1'), import os\nx = 1  # !ls",
    "s = '''\n!ls\n%run x\nimport os\n'''",
    "f'''\n!ls {x}\n'''",
    "x = (\n    10\n    % 3\n)",
    "'{:,.2f} and {name}'.format(x, name=y)\nf'{x!r:>10}'",
    "print('%s is %d' % (a, b))",
    "d['open']('x') if False else None\nd = {'open': str}",
    "sorted(items, key=lambda it: it[1])[0][0].upper()",
    "matrix = [[f(i, j) for j in range(3)] for i in range(3)]",
    "match x:\n    case {'open': value}:\n        print(value)\n    case [a, *rest]:\n        pass",
    "try:\n    x = 1 / 0\nexcept ZeroDivisionError as error:\n    print(error)",
    "x = y = z = None; a, *b = range(5)",
    "await task\nasync for x in y: pass",
    "dog.open()\nself.open('x')\nImage.open('x.png')\nzipfile.open\ndoc.compile()",
    "assert (df['a'] >= 0).all(), 'negative'",
    "handler = print\nhandler('x')",
    "x if callable(x) else str(x)",
    "isinstance(x, (int, float)) and hasattr(x, 'mean')",
    // IPython
    "%matplotlib inline",
    "%config InlineBackend.figure_format = 'retina'",
    "%time df.groupby('a').sum()",
    "%timeit -n 10 np.sum(x)",
    "%%time\ndf = pd.read_csv('x.csv')\ndf.shape",
    "%%capture\nmodel.fit(X, y)",
    "%pip install pandas",
    "!pip install -q 'pandas>=2' openpyxl",
    "df.head?",
    "np.mean??",
    "?np.mean",
    "%who",
    "get_ipython().run_line_magic('matplotlib', 'inline')",
    "ls = [1]\nls",
    "",
    "\n   \n",
    "x",
];

/// The same with more modules allowed.
const WITH_MODULES: &[&str] = &[
    "import re\npattern = re.compile(r'\\d+')\npattern.match('1')",
    "import torch\nmodel = torch.compile(model)\nmodel.eval()",
    "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return torch.nn.Linear(2, 2)(x)",
    "from functools import partial, lru_cache\npartial(f, 1)(2)\n@lru_cache(maxsize=None)\ndef g(x): return x",
    "from functools import reduce\nreduce(lambda a, b: a + b, [1, 2])",
    "from keras import layers\nx = layers.Dense(64)(inputs)",
    "from keras.layers import Dense\nx = Dense(64)(inputs)",
    "import json\njson.dumps({'a': 1})\njson.load(handle)",
    "from pathlib import Path\nPath('x.txt').write_text('y')\nfor p in Path().glob('*.csv'): print(p.stat().st_size)",
    "from pathlib import Path\nPath('report.py').write_text('print(1)')\nPath('x').rename('helper.py')",
    "from PIL import Image\nImage.open('x.png').resize((10, 10))",
    "import os\nos.path.join('a', 'b')\nos.listdir('.')\nos.environ.get('HOME')",
    "import math, itertools, collections\ncollections.Counter('abc').most_common(1)[0][0]",
    "from collections import defaultdict\nd = defaultdict(lambda: defaultdict(int))",
    "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 0",
    "import sys\nprint(sys.version)",
    "import platform\nplatform.system()",
    "import warnings\nwarnings.filterwarnings('ignore')",
    "from io import StringIO\npd.read_csv(StringIO('a,b'))",
    "import time\nstart = time.perf_counter()",
    "import yaml\nyaml.safe_load('a: 1')",
    "import torch\ntorch.multiprocessing.cpu_count()",
];

#[test]
fn no_idiom_is_found() {
    for code in IDIOMS {
        let found = Policy::default().check(code);
        assert!(found.is_empty(), "{code}\nhas {found:#?}");
    }
    let policy = allowing(&[
        "re",
        "torch",
        "functools",
        "keras",
        "json",
        "pathlib",
        "PIL",
        "os",
        "math",
        "itertools",
        "collections",
        "dataclasses",
        "sys",
        "platform",
        "warnings",
        "io",
        "time",
        "yaml",
    ]);
    for code in WITH_MODULES {
        let found = policy.check(code);
        assert!(found.is_empty(), "{code}\nhas {found:#?}");
    }
}

/// Of the code that comes with Heddle the default policy finds no more than these imports.
#[test]
fn code_that_comes_with_heddle_is_found_only_to_import() {
    let notebooks = [
        include_str!("../../../notebooks/first_steps.ipynb"),
        include_str!("../../../notebooks/zhongwen.ipynb"),
    ];
    let demo = [
        include_str!("../../../config/demo/task1_statistics.py"),
        include_str!("../../../config/demo/task2_plot.py"),
        include_str!("../../../config/demo/task3_page.py"),
    ];
    let cells = notebooks
        .iter()
        .flat_map(|text| Notebook::parse(text.as_bytes()).unwrap().code_cells());
    let code: Vec<String> = cells
        .map(|cell| cell.source)
        .chain(demo.map(str::to_owned))
        .collect();
    let found: Vec<String> = code
        .iter()
        .flat_map(|code| Policy::default().check(code))
        .map(|finding| finding.message)
        .collect();
    assert_eq!(
        found,
        [
            "The module `pathlib` is not allowed",
            "The module `html` is not allowed",
            "The module `pathlib` is not allowed"
        ]
    );
    let policy = allowing(&["html", "pathlib"]);
    assert!(code.iter().all(|code| policy.check(code).is_empty()));
    assert!(code.iter().all(|code| risks(None, code).is_empty()));
}
