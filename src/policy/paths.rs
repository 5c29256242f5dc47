//! Texts and paths as far as they can be read in the code.

use ruff_python_ast::{Expr, FStringPart, InterpolatedStringElement, Operator};

/// The text that an expression is: a literal, or literals added together.
pub(super) fn constant(expr: &Expr) -> Option<String> {
    match expr {
        Expr::StringLiteral(literal) => Some(literal.value.to_str().to_owned()),
        Expr::BinOp(sum) if sum.op == Operator::Add => {
            Some(constant(&sum.left)? + &constant(&sum.right)?)
        }
        Expr::FString(text) => {
            let literal = |element: &InterpolatedStringElement| match element {
                InterpolatedStringElement::Literal(literal) => Some(literal.value.to_string()),
                InterpolatedStringElement::Interpolation(it) => constant(&it.expression),
            };
            text.value
                .iter()
                .map(|part| match part {
                    FStringPart::Literal(literal) => Some(literal.value.to_string()),
                    FStringPart::FString(text) => text.elements.iter().map(literal).collect(),
                })
                .collect()
        }
        _ => None,
    }
}

/// Whether a path certainly leads out of the working directory. `text` may be no more than its beginning.
pub(super) fn is_outside(text: &str) -> bool {
    let drive = || {
        let bytes = text.as_bytes();
        bytes.len() > 2
            && bytes[0].is_ascii_alphabetic()
            && bytes[1] == b':'
            && matches!(bytes[2], b'/' | b'\\')
    };
    text.starts_with(['/', '~', '\\'])
        || text.split(['/', '\\']).any(|part| part == "..")
        || drive()
}

/// The module as which a file of this name is imported; also of a file that names modules to import.
pub(super) fn imported_as(path: &str) -> Option<&str> {
    let mut parts = path.rsplit(['/', '\\']);
    let file = parts.next()?;
    if file == "matplotlibrc" {
        return Some("matplotlib");
    }
    let (_, ending) = file.rsplit_once('.')?;
    if !matches!(ending, "py" | "pyw" | "pyc" | "pyo" | "so" | "pyd" | "pth") {
        return None;
    }
    // `name.cpython-312-x86_64-linux-gnu.so` is `name`, and a package is its folder.
    match file.split('.').next()? {
        "__init__" => parts.next(),
        name => Some(name),
    }
}

/// Whether a text is an address on the network.
pub(super) fn is_address(text: &str) -> bool {
    let scheme = text.split("://").next().unwrap_or_default();
    text.contains("://")
        && [
            "http", "https", "ftp", "s3", "gs", "gcs", "az", "abfs", "hdfs", "sftp",
        ]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_known_by_its_files_name() {
        for (path, module) in [
            ("seaborn.py", Some("seaborn")),
            (
                "./a/seaborn.cpython-312-x86_64-linux-gnu.so",
                Some("seaborn"),
            ),
            ("seaborn/__init__.py", Some("seaborn")),
            ("matplotlibrc", Some("matplotlib")),
            ("x.pth", Some("x")),
            ("seaborn.py.csv", None),
            ("py", None),
            ("out/", None),
        ] {
            assert_eq!(imported_as(path), module, "{path}");
        }
    }

    #[test]
    fn outside_is_absolute_at_home_or_upwards() {
        for path in [
            "/etc/x",
            "~/x",
            "../x",
            "a/../../x",
            "C:\\x",
            "d:/x",
            "\\\\host\\x",
            "..",
        ] {
            assert!(is_outside(path), "{path}");
        }
        for path in ["x.csv", "a/b.csv", "./x", "a..b", "...", "", "x:1"] {
            assert!(!is_outside(path), "{path}");
        }
        assert!(is_address("HTTPS://x") && is_address("s3://b/k"));
        assert!(!is_address("sqlite:///x") && !is_address("x"));
    }
}
