//! JupyterLab in a headless Chromium. What the person does there is in `lab.py`.

use std::path::{Path, PathBuf};

use crate::asking::once;
use crate::jupyter::Jupyter;
use crate::support::model_server::{Answer, Request};
use crate::support::roles::{answer, code, planner, short};

/// The browser, by the names that it is packaged under.
fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let files = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    files.into_iter().find(|file| file.is_file())
}

const CODE: &str = "\
import matplotlib.pyplot as plt
sales.plot.bar(figsize=(6, 2.2), title=\"Sales by month\", rot=0)
plt.show()
print(sales.idxmax(), sales.max())";

/// What the model answers when it is asked what it knows from before the restart.
fn memory(request: &Request) -> Answer {
    let messages = request.messages();
    let knows = |text: &str| messages.iter().any(|(_, message)| message.contains(text));
    answer(
        match knows("Set the target to 100.") && knows("all variables are lost") {
            true => "You set the target to 100.",
            false => "I do not know.",
        },
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_at_jupyterlab_plots_slides_asks_allows_interrupts_and_restarts() {
    let Some(chromium) = chromium() else {
        let reason =
            "chromium is not installed: apt-get install -y --no-install-recommends chromium";
        let required = std::env::var_os("HEDDLE_REQUIRE_BROWSER").is_some();
        assert!(!required, "{reason}");
        return eprintln!("skipped: {reason}");
    };
    let jupyter = Jupyter::new(Vec::new()).await;
    jupyter.install("heddle", "sandbox").await;
    let plan = planner(serde_json::json!({
        "init_plan": "1. plot the sales\n2. find the best month <depends on 1>",
        "plan": "1. plot the sales by month, compute and tell the best one",
        "current_plan_step": "1. plot the sales by month, compute and tell the best one",
        "message": "Plot sales as bars and find the best month.",
    }));
    jupyter.model.then(vec![
        Answer::text(&plan),
        code(CODE),
        once(
            jupyter.world.desk().join("go"),
            answer("**April was the best month**, with 18 sold. The weakest was February, with 9."),
        ),
        short("target = 100"),
        answer("The target is set."),
        Answer::made_of(memory),
    ]);
    let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("jupyterlab.png");
    jupyter
        .python(
            "lab.py",
            &[&chromium.to_string_lossy(), &screenshot.to_string_lossy()],
        )
        .await;
    jupyter.is_quiet().await;
}
