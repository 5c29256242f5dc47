//! From the name that code imports to the name that the index knows.

/// Imports whose package has another name.
const OTHERS: &[(&str, &str)] = &[
    ("Bio", "biopython"),
    ("Crypto", "pycryptodome"),
    ("Cryptodome", "pycryptodomex"),
    ("MySQLdb", "mysqlclient"),
    ("OpenSSL", "pyopenssl"),
    ("PIL", "pillow"),
    ("attr", "attrs"),
    ("bs4", "beautifulsoup4"),
    ("cv2", "opencv-python-headless"),
    ("dateutil", "python-dateutil"),
    ("docx", "python-docx"),
    ("dotenv", "python-dotenv"),
    ("faiss", "faiss-cpu"),
    ("fitz", "pymupdf"),
    ("git", "gitpython"),
    ("googleapiclient", "google-api-python-client"),
    ("jose", "python-jose"),
    ("jwt", "pyjwt"),
    ("magic", "python-magic"),
    ("nacl", "pynacl"),
    ("odf", "odfpy"),
    ("osgeo", "gdal"),
    ("pptx", "python-pptx"),
    ("psycopg2", "psycopg2-binary"),
    ("pywt", "pywavelets"),
    ("rest_framework", "djangorestframework"),
    ("ruamel", "ruamel.yaml"),
    ("serial", "pyserial"),
    ("shapefile", "pyshp"),
    ("skimage", "scikit-image"),
    ("sklearn", "scikit-learn"),
    ("skopt", "scikit-optimize"),
    ("slugify", "python-slugify"),
    ("socks", "pysocks"),
    ("telegram", "python-telegram-bot"),
    ("umap", "umap-learn"),
    ("usb", "pyusb"),
    ("wx", "wxpython"),
    ("yaml", "pyyaml"),
    ("zmq", "pyzmq"),
];

/// Imports whose package has the same name, and is used widely enough to be no guess.
const SAME: &[&str] = &[
    "altair",
    "arch",
    "astropy",
    "bokeh",
    "boto3",
    "catboost",
    "chardet",
    "cvxpy",
    "dask",
    "duckdb",
    "flask",
    "folium",
    "geopandas",
    "igraph",
    "markdown",
    "tables",
    "gensim",
    "httpx",
    "jieba",
    "jinja2",
    "joblib",
    "lightgbm",
    "lxml",
    "matplotlib",
    "mlxtend",
    "networkx",
    "nltk",
    "numba",
    "numpy",
    "openpyxl",
    "pandas",
    "patsy",
    "pdfplumber",
    "plotly",
    "polars",
    "prophet",
    "psutil",
    "pyarrow",
    "pydantic",
    "pymysql",
    "pypdf",
    "pyspark",
    "reportlab",
    "requests",
    "rich",
    "scipy",
    "seaborn",
    "shap",
    "shapely",
    "six",
    "spacy",
    "sqlalchemy",
    "squarify",
    "statsmodels",
    "sympy",
    "tabulate",
    "tensorflow",
    "tiktoken",
    "torch",
    "torchvision",
    "tqdm",
    "transformers",
    "wordcloud",
    "xarray",
    "xgboost",
    "xlrd",
    "xlsxwriter",
    "xlwt",
    "yfinance",
];

/// Parts of some Pythons that no package brings.
const STANDARD: &[&str] = &[
    "asynchat",
    "asyncore",
    "cgi",
    "cgitb",
    "crypt",
    "curses",
    "dbm",
    "distutils",
    "imp",
    "imghdr",
    "lzma",
    "msvcrt",
    "nntplib",
    "pipes",
    "readline",
    "smtpd",
    "sndhdr",
    "spwd",
    "sqlite3",
    "telnetlib",
    "tkinter",
    "turtle",
    "winreg",
    "winsound",
    "xdrlib",
];

/// A package that an import may mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    /// The name is taken from the import alone: somebody else's package may have it.
    pub guessed: bool,
}

/// The package that brings the top-level module `import`; `None` where none can.
pub fn package_of(import: &str) -> Option<Candidate> {
    let standard = STANDARD.contains(&import) || import.starts_with('_');
    let name = import
        .chars()
        .all(|character| character.is_ascii_alphanumeric() || character == '_');
    if standard || !name || !super::requirement::is_name(import) {
        return None;
    }
    let other = OTHERS.iter().find(|(module, _)| *module == import);
    Some(match other {
        Some((_, package)) => Candidate {
            name: (*package).to_owned(),
            guessed: false,
        },
        None => Candidate {
            name: import.to_owned(),
            guessed: !SAME.contains(&import),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_imports_have_their_packages() {
        let name = |import| package_of(import).map(|found| (found.name, found.guessed));
        assert_eq!(name("sklearn"), Some(("scikit-learn".into(), false)));
        assert_eq!(name("cv2"), Some(("opencv-python-headless".into(), false)));
        assert_eq!(name("seaborn"), Some(("seaborn".into(), false)));
        assert_eq!(name("my_helpers"), Some(("my_helpers".into(), true)));
    }

    #[test]
    fn what_no_package_brings_is_none() {
        for import in [
            "tkinter",
            "distutils",
            "_tkinter",
            "",
            "a b",
            "../x",
            "数据",
            "a.b",
        ] {
            assert_eq!(package_of(import), None, "{import}");
        }
    }
}
