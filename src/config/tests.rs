//! All layers together, over real files.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

/// A home with a project and a place for the user file; environment and flags as the test sets them.
struct World {
    _root: tempfile::TempDir,
    home: PathBuf,
    env: HashMap<String, OsString>,
    flags: Vec<(String, String)>,
}

impl World {
    fn new() -> World {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().canonicalize().unwrap().join("home");
        fs::create_dir_all(home.join("project/sub")).unwrap();
        World {
            _root: root,
            home,
            env: HashMap::new(),
            flags: vec![],
        }
    }

    fn file(self, name: &str, text: &str) -> World {
        let path = self.home.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        self
    }

    fn user(self, text: &str) -> World {
        self.file("config.toml", text)
    }

    fn toml(self, text: &str) -> World {
        self.file("project/heddle.toml", text)
    }

    fn json(self, text: &str) -> World {
        self.file("project/taskweaver_config.json", text)
    }

    fn env(mut self, name: &str, value: &str) -> World {
        self.env.insert(name.into(), value.into());
        self
    }

    fn flag(mut self, key: &str, value: &str) -> World {
        self.flags.push((key.into(), value.into()));
        self
    }

    /// As for a person who trusts whatever the project file says.
    fn load(&self) -> Result<Loaded, ConfigError> {
        let mut loaded = self.judged()?;
        loaded.accept(&loaded.waiting.clone());
        Ok(loaded)
    }

    fn judged(&self) -> Result<Loaded, ConfigError> {
        self.look(load)
    }

    /// The names of the values that wait, and what counts of a key meanwhile.
    fn waiting(&self, key: &str) -> (Vec<String>, String) {
        let loaded = self.judged().unwrap();
        let names = loaded.waiting.iter().map(|it| it.name.clone()).collect();
        let counts = loaded.values.iter().find(|it| it.key == key);
        (names, counts.unwrap().shown.clone())
    }

    /// Says yes to all that waits.
    fn trust(&self) {
        let loaded = self.judged().unwrap();
        loaded.remember(&loaded.waiting).unwrap();
    }

    fn look<T>(&self, look: impl FnOnce(&Request<'_>) -> T) -> T {
        look(&Request {
            project: None,
            cwd: self.home.join("project/sub"),
            home: Some(self.home.clone()),
            user_file: Some(self.home.join("config.toml")),
            state: Some(self.home.join("state")),
            flags: self.flags.clone(),
            env: &|name| self.env.get(name).cloned(),
        })
    }

    fn error(&self) -> String {
        let message = self.load().unwrap_err().to_string();
        message.replace(&format!("{}/", self.home.display()), "~/")
    }

    fn warnings(&self) -> Vec<String> {
        let strip = format!("{}/", self.home.display());
        let warnings = self.load().unwrap().warnings;
        warnings.iter().map(|w| w.replace(&strip, "~/")).collect()
    }

    /// Value and source, as they are shown.
    fn shown(&self, key: &str) -> (String, String) {
        let loaded = self.load().unwrap();
        let [_, value, source] = loaded.rows().find(|row| row[0] == key).unwrap();
        (
            value,
            source.replace(&format!("{}/", self.home.display()), "~/"),
        )
    }
}

fn pair(value: &str, source: &str) -> (String, String) {
    (value.into(), source.into())
}

#[test]
fn all_faults_of_all_layers_are_told_and_the_rest_counts() {
    let world = World::new()
        .toml("[llm]\nmodle = \"m\"\napi_key = \"sk-x\"\n[execution_service]\nkernel_mod = 1\nnetwork = \"maybe\"\n")
        .user("[kernel]\nstart_timeout = 5\ncolour = 1")
        .env("LLM_MAX_RETRIES", "many");
    let path = world.home.join("project/heddle.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let survey = world.look(survey);
    let faults: Vec<String> = survey.faults.iter().map(ToString::to_string).collect();
    let told = [
        "env LLM_MAX_RETRIES: llm.max_retries must be",
        "heddle.toml:2: unknown key `llm.modle`: did you mean `llm.model`?",
        "heddle.toml:5: unknown key `execution_service.kernel_mod`: did you mean `execution_service.kernel_mode`?",
        "heddle.toml:6: execution_service.network must be",
        "config.toml:3: unknown key `kernel.colour`",
    ];
    assert_eq!(faults.len(), told.len(), "{faults:#?}");
    for (fault, told) in faults.iter().zip(told) {
        assert!(fault.contains(told), "{fault}\n{told}");
    }
    let [warning] = survey.loaded.warnings.as_slice() else {
        panic!("{:?}", survey.loaded.warnings);
    };
    assert!(warning.contains("other users of this machine can read it"));
    assert_eq!(survey.loaded.waiting[0].name, "llm.api_key");
    let settings = survey.loaded.settings;
    assert_eq!(settings.kernel.start_timeout, Duration::from_secs(5));
    assert_eq!(world.load().unwrap_err().to_string(), faults[0]);
}

#[test]
fn of_very_many_faults_the_first_are_told_and_the_others_counted() {
    let text: String = (0..5000).map(|n| format!("x{n} = 1\n")).collect();
    let faults = World::new().toml(&text).look(survey).faults;
    assert_eq!(faults.len(), 21);
    assert!(
        faults[20]
            .to_string()
            .ends_with("heddle.toml: 4980 more faults")
    );
}

#[test]
fn each_layer_wins_over_the_weaker_ones() {
    let key = "kernel.start_timeout";
    let world = World::new();
    assert_eq!(world.shown(key), pair("60 s", "default"));
    let world = world.user("\n[kernel]\nstart_timeout = 1");
    assert_eq!(world.shown(key), pair("1 s", "~/config.toml:3"));
    let world = world.toml("[kernel]\nstart_timeout = 2");
    assert_eq!(world.shown(key), pair("2 s", "heddle.toml:2"));
    let world = world.env("KERNEL_START_TIMEOUT", "3");
    assert_eq!(world.shown(key), pair("3 s", "env KERNEL_START_TIMEOUT"));
    let world = world.env("HEDDLE_KERNEL_START_TIMEOUT", "4");
    assert_eq!(
        world.shown(key),
        pair("4 s", "env HEDDLE_KERNEL_START_TIMEOUT")
    );
    let world = world.flag(key, "5");
    assert_eq!(world.shown(key), pair("5 s", "command line"));
    let loaded = world.load().unwrap();
    assert_eq!(loaded.settings.kernel.start_timeout, Duration::from_secs(5));
    assert_eq!(loaded.project_dir, Some(world.home.join("project")));
    assert_eq!(
        loaded.files,
        [
            world.home.join("project/heddle.toml"),
            world.home.join("config.toml")
        ]
    );
}

#[test]
fn a_flag_of_its_own_is_named_as_the_source() {
    let world = World::new().flag("execution_service.kernel_mode", "local");
    assert_eq!(
        world.shown("execution_service.kernel_mode"),
        pair("local", "--mode")
    );
}

#[test]
fn taskweaver_config_is_read_flat_and_nested_with_numbers_as_text() {
    let world = World::new().json(
        "{\n\"llm.model\": \"m\",\n\"llm.temperature\": \"0.5\",\n\"code_interpreter\": {\n  \"max_retry_count\": 7}}",
    );
    let settings = world.load().unwrap().settings;
    assert_eq!(settings.llm.model.as_deref(), Some("m"));
    assert_eq!(settings.llm.temperature, Some(0.5));
    assert_eq!(settings.code_interpreter.max_retry_count, 7);
    assert_eq!(
        world.shown("code_interpreter.max_retry_count"),
        pair("7", "taskweaver_config.json:5")
    );
}

#[test]
fn a_secret_reaches_the_settings_and_nothing_that_is_shown() {
    let world = World::new()
        .env("LLM_API_KEY", "sk-very-secret")
        .toml("llm.groq.api_key = \"sk-very-secret\"");
    let loaded = world.load().unwrap();
    let key = loaded.settings.llm.api_key.as_ref().unwrap();
    assert_eq!(key.expose_secret(), "sk-very-secret");
    assert_eq!(
        world.shown("llm.api_key"),
        pair("set (hidden)", "env LLM_API_KEY")
    );
    assert!(!format!("{loaded:?}").contains("very"));
}

#[test]
fn errors_about_secrets_do_not_quote_them() {
    for world in [
        World::new().toml("llm.api_key = [\"sk-very-secret\"]"),
        World::new().toml("llm.api_key = \"sk-very\\nsecret\""),
        World::new().toml("llm.api_key = 1234567"),
        World::new().toml("llm.api_kee = \"sk-very-secret\""),
        World::new().toml("llm.api_base = \"https://user:very@host\""),
        World::new().env("LLM_API_KEY", "sk-very\u{7}secret"),
    ] {
        let message = world.error();
        assert!(
            !message.contains("very") && !message.contains("123"),
            "{message}"
        );
    }
}

#[test]
fn a_null_hides_the_weaker_layers() {
    let world = World::new()
        .toml("[llm]\nmodel = \"m\"\nmax_retries = 9\nresponse_format = \"json_schema\"")
        .env("LLM_MODEL", "none")
        .env("LLM_MAX_RETRIES", "NULL")
        .env("LLM_RESPONSE_FORMAT", "nil")
        .env("CODE_INTERPRETER_TIMEOUT", "null");
    let settings = world.load().unwrap().settings;
    assert_eq!(settings.llm.model, None);
    assert_eq!(settings.llm.max_retries, 3);
    assert_eq!(settings.llm.response_format, ResponseFormat::Text);
    assert_eq!(settings.code_interpreter.timeout, None);
    assert_eq!(world.shown("llm.model"), pair("not set", "env LLM_MODEL"));
    let json = World::new().json("{\"llm.response_format\": null}");
    let format = json.load().unwrap().settings.llm.response_format;
    assert_eq!(format, ResponseFormat::Text);
}

#[test]
fn an_empty_text_is_as_if_the_key_was_not_there() {
    let world = World::new()
        .user("llm.api_key = \"k\"")
        .json("{\"llm.api_key\": \"\"}")
        .env("LLM_API_KEY", "")
        .env("HEDDLE_LLM_API_KEY", "  ");
    assert_eq!(world.shown("llm.api_key").1, "~/config.toml:1");
}

#[test]
fn what_is_set_for_a_service_wins_inside_its_layer_only() {
    let text = "[llm]\nmodel = \"general\"\ngroq.model = \"own\"\napi_type = \"groq\"";
    let world = World::new().toml(text);
    assert_eq!(world.shown("llm.model"), pair("own", "heddle.toml:3"));
    assert_eq!(
        world.shown("llm.api_base"),
        pair("https://api.groq.com/openai/v1", "default")
    );
    let world = world.env("LLM_API_TYPE", "openai");
    assert_eq!(world.shown("llm.model"), pair("general", "heddle.toml:2"));
    let world = World::new().toml(text).flag("llm.model", "typed");
    assert_eq!(world.shown("llm.model"), pair("typed", "--model"));
}

#[test]
fn the_root_of_an_ollama_server_leads_to_its_chat_completions() {
    for (base, expected) in [
        ("http://localhost:11434/", "http://localhost:11434/v1"),
        ("http://box/ollama/v1", "http://box/ollama/v1"),
    ] {
        let world = World::new()
            .flag("llm.api_type", "ollama")
            .flag("llm.api_base", base);
        assert_eq!(world.load().unwrap().settings.llm.api_base, expected);
    }
}

#[test]
fn a_service_with_another_wire_format_is_refused_with_those_that_work() {
    let message = World::new().json("{\n\"llm.api_type\": \"azure\"}").error();
    assert!(
        message.starts_with(
            "~/project/taskweaver_config.json:2: llm.api_type `azure` is not supported"
        )
    );
    assert!(message.contains("openai, ollama, qwen"), "{message}");
}

#[test]
fn an_unknown_key_in_toml_is_an_error_with_the_nearest() {
    let world = World::new().toml("[llm]\n\nmodle = \"m\"");
    assert_eq!(
        world.error(),
        "~/project/heddle.toml:3: unknown key `llm.modle`: did you mean `llm.model`?"
    );
    let message = World::new().user("colour = 1").error();
    assert_eq!(
        message,
        "~/config.toml:1: unknown key `colour`: `heddle config show` lists the keys"
    );
    let message = World::new().toml("session.roles = []").error();
    assert!(message.contains("TaskWeaver has it"), "{message}");
    let message = World::new().flag("llm.modle", "m").error();
    assert!(message.starts_with("command line: unknown key `llm.modle`"));
}

#[test]
fn taskweaver_config_may_hold_keys_without_use_and_unknown_ones() {
    let world = World::new().json(
        "{\"planner.use_example\": true,\n\"session.roles\": [\"planner\"],\n\"llm.modle\": \"m\"}",
    );
    assert_eq!(
        world.warnings(),
        [
            "~/project/taskweaver_config.json: not used by this version: planner.use_example (line 1), \
             session.roles (line 2)",
            "taskweaver_config.json:3: unknown key `llm.modle`: did you mean `llm.model`? (it has no effect)",
        ]
    );
    let many: Vec<String> = (0..5000).map(|n| format!("\"k{n}\": 1")).collect();
    let world = World::new().json(&format!("{{{}}}", many.join(",")));
    assert_eq!(world.warnings().len(), 21);
}

#[test]
fn a_wrong_value_is_named_with_place_and_what_is_allowed() {
    for (world, message) in [
        (
            World::new().toml("[kernel]\ntransport = \"udp\""),
            "~/project/heddle.toml:2: kernel.transport must be one of ipc, tcp, but is the text \"udp\"",
        ),
        (
            World::new().user("llm.openai.temperature = true"),
            "~/config.toml:1: llm.openai.temperature must be a number from 0 to 2, but is true",
        ),
        (
            World::new().env("LLM_SEED", "x\x1b[2J"),
            "env LLM_SEED: llm.seed must be a whole number, but is the text \"x\\u{1b}[2J\"",
        ),
        (
            World::new().flag("execution_service.kernel_mode", "docker"),
            "--mode: execution_service.kernel_mode must be one of auto, local, container, sandbox, but is the text \
             \"docker\"",
        ),
        (
            World::new().toml("code_interpreter.output_chars = 1979-05-27"),
            "~/project/heddle.toml:1: code_interpreter.output_chars must be a whole number from 200 to 10000000, but \
             is a date or time",
        ),
    ] {
        assert_eq!(world.error(), message);
    }
    // Also where a stronger layer hides it.
    let hidden = World::new().toml("llm.seed = \"x\"").flag("llm.seed", "1");
    assert!(hidden.load().is_err());
}

#[test]
fn a_variable_that_is_not_utf8_is_an_error() {
    let mut world = World::new();
    let bytes = OsStr::from_bytes(b"\xff").to_owned();
    world.env.insert("LLM_MODEL".into(), bytes);
    assert_eq!(
        world.error(),
        "env LLM_MODEL: llm.model must be a text in one line, but is not UTF-8"
    );
}

#[test]
fn a_key_written_twice_is_pointed_out_and_the_second_counts() {
    let world = World::new().json("{\"llm.model\": \"a\",\n\"llm\": {\"model\": \"b\"}}");
    assert_eq!(world.shown("llm.model").0, "b");
    assert_eq!(
        world.warnings(),
        [
            "llm.model is set twice, at taskweaver_config.json:1 and taskweaver_config.json:2: the second counts"
        ]
    );
}

#[test]
fn relative_paths_start_at_the_project_in_a_file_and_at_the_working_directory_on_the_command_line()
{
    let world =
        World::new().toml("llm.record = \"r\"\nworkspace.workspace_path = \"${AppBaseDir}/w\"");
    let world = world.flag("llm.replay", "p").user("");
    let settings = world.load().unwrap().settings;
    let project = world.home.join("project");
    assert_eq!(settings.llm.record, Some(project.join("r")));
    assert_eq!(settings.workspace.workspace_path, Some(project.join("w")));
    assert_eq!(settings.llm.replay, Some(project.join("sub/p")));
}

#[test]
fn a_key_in_a_file_that_others_can_read_is_warned_about() {
    let world = World::new().toml("llm.api_key = \"sk-x\"");
    assert_eq!(world.warnings(), [""; 0]);
    let path = world.home.join("project/heddle.toml");
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    let warnings = world.warnings();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("(mode 0640): run `chmod 600 ~/project/heddle.toml`"),
        "{}",
        warnings[0]
    );
}

/// A project file's value of a key, and whether it counts beside this user file.
fn counts(toml: &str, user: &str, key: &str) -> bool {
    World::new().user(user).toml(toml).waiting(key).0.is_empty()
}

#[test]
fn a_project_file_can_be_stricter_by_itself_and_nothing_else() {
    for (toml, user, key, expected) in [
        ("llm.model = 'm'", "", "llm.model", true),
        ("kernel.start_timeout = 1", "", "kernel.start_timeout", true),
        ("llm.api_base = 'http://x/'", "", "llm.api_base", false),
        (
            "llm.api_base = 'http://x/'",
            "llm.api_base = 'http://x'",
            "llm.api_base",
            true,
        ),
        ("llm.api_type = 'openai'", "", "llm.api_type", true),
        ("llm.api_type = 'ollama'", "", "llm.api_type", false),
        ("llm.groq.api_key = 'k'", "", "llm.api_key", false),
        ("llm.groq.model = 'k'", "", "llm.model", true),
        (
            "execution_service.network = true",
            "",
            "execution_service.network",
            false,
        ),
        (
            "execution_service.network = true",
            "execution_service.network = true",
            "execution_service.network",
            true,
        ),
        (
            "execution_service.mounts = ['/data']",
            "",
            "execution_service.mounts",
            false,
        ),
        (
            "code_interpreter.approve = 'risky'",
            "",
            "code_interpreter.approve",
            true,
        ),
        (
            "code_interpreter.approve = 'risky'",
            "code_interpreter.approve = 'always'",
            "code_interpreter.approve",
            false,
        ),
        (
            "workspace.workspace_path = 'w'",
            "",
            "workspace.workspace_path",
            false,
        ),
    ] {
        assert_eq!(counts(toml, user, key), expected, "{toml} beside {user:?}");
    }
    // The environment counts before the file, so nothing of it would change.
    let world = World::new()
        .env("LLM_API_BASE", "http://mine/v1")
        .toml("llm.api_base = 'http://x'");
    let loaded = world.judged().unwrap();
    assert!(!loaded.waiting[0].effective);
    assert_eq!(loaded.settings.llm.api_base, "http://mine/v1");
}

#[test]
fn what_waits_is_as_if_it_was_not_there_also_an_explicit_null() {
    let key = "code_interpreter.approve";
    let world = World::new()
        .user("code_interpreter.approve = 'always'")
        .json("{\"code_interpreter.approve\": null}");
    assert_eq!(
        world.waiting(key),
        (vec![key.to_owned()], "always".to_owned())
    );
    // With a yes the null counts.
    world.trust();
    assert_eq!(world.waiting(key), (vec![], "never".to_owned()));
    let world = World::new().toml("llm.api_type = 'ollama'");
    assert_eq!(world.waiting("llm.api_base").1, "https://api.openai.com/v1");
    world.trust();
    assert_eq!(world.waiting("llm.api_base").1, "http://localhost:11434/v1");
    // A service's own value is not let in by another service's.
    let world = World::new()
        .user("[llm]\napi_type = 'groq'\ngroq.api_base = 'http://x'\nopenai.api_key = 'k'")
        .toml("llm.api_type = 'openai'");
    world.trust();
    let world = world.toml("llm.api_type = 'openai'\nllm.api_base = 'http://x'");
    assert_eq!(world.waiting("llm.api_base").0, ["llm.api_base"]);
}

#[test]
fn a_yes_is_for_these_values_and_gone_when_the_file_was_another_one() {
    let key = "llm.api_base";
    let first = "[llm]\napi_base = 'http://x'\napi_key = 'k'\nmodel = 'a'";
    let world = World::new().toml(first);
    assert_eq!(world.waiting(key).0, [key, "llm.api_key"]);
    world.trust();
    assert_eq!(world.waiting(key), (vec![], "http://x".to_owned()));
    // What needs no trust may change, and so may the place in the file.
    let world = world.toml("[llm]\nmodel = 'b'\n\napi_key = 'k'\napi_base = 'http://x'");
    assert_eq!(world.waiting(key).0, [""; 0]);
    // Another value asks for itself alone, and the one before has to be asked about again.
    let world = world.toml("[llm]\napi_base = 'http://y'\napi_key = 'k'");
    assert_eq!(world.waiting(key).0, [key]);
    let world = world.toml(first);
    assert_eq!(world.waiting(key).0, [key]);
    world.trust();
    // Also where the file in between was stricter, could not be used in this key, or was not there.
    // Also where the file in between was stricter, or could not be used in this key.
    let world = world.toml("");
    world.judged().unwrap();
    let world = world.toml(first);
    assert_eq!(world.waiting(key).0, [key, "llm.api_key"]);
    world.trust();
    let world = world.toml("[llm]\napi_base = 5\napi_key = 'k'");
    world.judged().unwrap_err();
    let world = world.toml(first);
    assert_eq!(world.waiting(key).0, [key]);
    world.trust();
    // And where there was none.
    fs::remove_file(world.home.join("project/heddle.toml")).unwrap();
    world.judged().unwrap();
    let world = world.toml(first);
    assert_eq!(world.waiting(key).0, [key, "llm.api_key"]);
}

#[test]
fn a_path_is_trusted_as_what_it_leads_to() {
    let world =
        World::new().toml("execution_service.mounts = ['in:rw', '~/own']\nllm.record = 'log'");
    let project = world.home.join("project");
    let link = |name: &str, to: &str| {
        let _ = fs::remove_file(project.join(name));
        std::os::unix::fs::symlink(to, project.join(name)).unwrap();
    };
    fs::create_dir(world.home.join("data")).unwrap();
    link("in", "../data");
    link("log", "sub/new");
    world.trust();
    let loaded = world.judged().unwrap();
    let real = |name: &str| world.home.join(name).display().to_string();
    let mounts = [real("data") + ":rw", real("own")];
    assert_eq!(loaded.settings.execution_service.mounts, mounts);
    assert_eq!(loaded.settings.llm.record, Some(project.join("sub/new")));
    link("log", "../.bashrc");
    assert_eq!(
        world.waiting("llm.record"),
        (vec!["llm.record".to_owned()], "not set".to_owned())
    );
    link("in", "/");
    let (names, mounts) = world.waiting("execution_service.mounts");
    assert_eq!(
        (names[0].as_str(), mounts.as_str()),
        ("execution_service.mounts", "not set")
    );
    let shown = world.judged().unwrap().waiting[0].shown.clone();
    assert_eq!(shown, format!("/:rw, {}", real("own")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_in_any_file_make_loading_panic(
        user in proptest::collection::vec(any::<u8>(), 0..100),
        project in "(\\PC|[\\n\"={}:.,]|llm|model|code_interpreter){0,40}",
        json in any::<bool>(),
    ) {
        let world = World::new();
        let world = if json { world.json(&project) } else { world.toml(&project) };
        fs::write(world.home.join("config.toml"), user).unwrap();
        let _ = world.load().map_err(|error| error.to_string());
    }

    #[test]
    fn any_value_of_any_key_is_taken_or_refused(
        key in proptest::sample::select(KEYS),
        text in "\\PC{0,20}|-?[0-9.e]{1,10}|[/~.${}AppBaseDir:]{0,20}",
    ) {
        let world = World::new().env(&key.name.replace('.', "_").to_uppercase(), &text);
        let _ = world.load().map_err(|error| error.to_string());
    }
}
