//! Cells of the agent's, with a scripted model.

use heddle::protocol::Transport;
use serde_json::json;

use super::served::Served;
use crate::support::kernels::run;
use crate::support::model_server::ModelServer;
use crate::support::process;
use crate::support::roles::{answer, code, short};

#[tokio::test(flavor = "multi_thread")]
async fn all_pieces_that_ran_well_are_offered_as_the_next_cell() {
    let model = ModelServer::start(vec![
        short("a = 1"),
        short("undefined + a"),
        code("b = a + 1"),
        answer("b is 2"),
    ])
    .await;
    let served = Served::before_it_starts(Transport::Ipc);
    let mut command = served.command(&["--mode", "local"]);
    command
        .env("LLM_API_BASE", model.url())
        .env("LLM_MODEL", "mock")
        .env(
            "HEDDLE_WORKSPACE_WORKSPACE_PATH",
            served.folder.path().join("w"),
        );
    let _child = process::Ended(command.spawn().unwrap());
    let client = served.client().await;
    let ran = run(&client, "%%ask\ncount").await;
    assert!(ran.whole(), "{ran:?}");
    assert_eq!(
        ran.reply.unwrap().payload,
        [json!({"source": "set_next_input", "text": "a = 1\n\nb = a + 1", "replace": false})]
    );
}

#[tokio::test]
async fn without_a_model_the_cell_says_what_to_write_where_and_that_is_enough() {
    let served = Served::before_it_starts(Transport::Ipc);
    let mut command = served.command(&["--mode", "local"]);
    for name in [
        "LLM_MODEL",
        "LLM_API_BASE",
        "HEDDLE_LLM_MODEL",
        "HEDDLE_LLM_API_BASE",
    ] {
        command.env_remove(name);
    }
    command.env(
        "HEDDLE_WORKSPACE_WORKSPACE_PATH",
        served.folder.path().join("w"),
    );
    let _child = process::Ended(command.spawn().unwrap());
    let client = served.client().await;
    let (_, told) = run(&client, "%ask x").await.error.unwrap();
    let file = served.home.path().join("heddle/config.toml");
    let write = format!("{}:\n\n[llm]\nmodel = ", file.display());
    assert!(told.contains(&write), "{told}");
    let model = ModelServer::start(vec![answer("done")]).await;
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let settings = format!("[llm]\nmodel = \"mock\"\napi_base = \"{}\"\n", model.url());
    std::fs::write(file, settings).unwrap();
    assert!(run(&client, "# ask it\n%ask x").await.error.is_none());
}
