//! The Python package that Heddle brings into kernels: its own tests, in the managed environment.

use std::process::Command;

use crate::heddle::managed_python;

#[test]
fn the_tests_of_the_kernel_s_side_pass() {
    let output = Command::new(managed_python())
        .args(["-m", "unittest", "discover", "-s", "tests/python"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("Ran 0 tests"), "{said}");
}
