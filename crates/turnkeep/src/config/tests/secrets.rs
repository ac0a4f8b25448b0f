//! Every secret of the declaration: where it may come from, who may read it, and that nobody sees
//! it.

use std::path::{Path, PathBuf};

use super::load_layers;
use crate::config::secret::is_quiet;
use crate::config::{Env, read};

/// Fits every secret there is: a key of a model and what callbacks are signed with.
const SECRET: &str = "whsec_c3VwZXIgc2VjcmV0IHRoYXQgbm9ib2R5IHNlZXM=";
/// What none of it may show.
const SHOWN: [&str; 3] = ["c3VwZXIgc2Vj", "super secret", "115, 117, 112"];

/// A section in which this key is all that is missing.
fn section_of(key: &str) -> &'static str {
    match key {
        "callback_secret_file" | "callback_secret_env" => {
            "[agents.default]\nkind = \"echo\"\ncallback_url = \"https://h\"\n"
        }
        "api_key_file" | "api_key_env" => {
            "[agents.default]\nkind = \"openai\"\nmodel = \"m\"\nbase_url = \"http://h\"\n"
        }
        "moderation_secret_file" | "moderation_secret_env" => {
            "[guard]\nmoderation_url = \"https://h\"\n"
        }
        "url_file" | "url_env" => "[store]\nkind = \"postgres\"\n",
        "headers_file" | "headers_env" => "[telemetry]\notlp_endpoint = \"https://h\"\n",
        "token_file" | "token_env" => {
            "[agents.default]\nkind = \"openai\"\nmodel = \"m\"\nbase_url = \"http://h\"\n\
             tools = \"shop.*\"\n[tools.shop]\nurl = \"https://h\"\n"
        }
        "secret_file" | "secret_env" => "[listeners.crm]\nurl = \"https://h\"\n",
        other => panic!("a new secret: say here where \"{other}\" belongs"),
    }
}

/// What stands in the file or the variable: the secret itself, or as part of something.
fn fitting(stem: &str) -> String {
    match stem {
        "headers" => format!("authorization={SECRET}"),
        "url" => format!("postgres://turnkeep:{SECRET}@db.example.org/turnkeep"),
        _ => SECRET.to_owned(),
    }
}

/// Every key that names a secret, without its ending.
fn stems() -> Vec<&'static str> {
    let keys = read::HOMES.iter().flat_map(|(_, keys)| keys.iter());
    let mut stems = Vec::new();
    for key in keys.map(|key| key.name).filter(|name| is_quiet(name)) {
        let stem = key.trim_end_matches("_file").trim_end_matches("_env");
        if !stems.contains(&stem) {
            stems.push(stem);
        }
    }
    stems
}

fn file(dir: &Path, text: &str, mode: u32) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(format!("secret-{mode:o}"));
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// What is said: the configuration as logs would show it and its notes, or the mistakes.
fn said(toml: &str, env: &Env) -> Result<(String, Vec<String>), String> {
    let loaded = load_layers(toml, env, &[]);
    let told = match &loaded {
        Ok(resolved) => format!("{resolved:?} {resolved:#?}"),
        Err(problems) => format!("{problems} {problems:?}"),
    };
    for secret in SHOWN {
        assert!(!told.contains(secret), "{told}");
    }
    loaded.map(|resolved| (told, resolved.notes)).map_err(|problems| problems.to_string())
}

#[test]
fn every_secret_comes_from_a_file_or_a_variable() {
    let dir = tempfile::tempdir().unwrap();
    assert!(stems().len() >= 4, "{:?}", stems());
    for stem in stems() {
        let secret = fitting(stem);
        let env = Env::from([("THE_SECRET", &*secret), ("EMPTY", " ")]);
        let head = section_of(&format!("{stem}_file"));
        let by = |key: &str, value: &str| said(&format!("{head}{stem}_{key} = {value:?}"), &env);
        let path = |mode| file(dir.path(), &format!("{secret}\n"), mode).display().to_string();
        assert_eq!(by("env", "THE_SECRET").unwrap().1, [""; 0], "{stem}");
        assert_eq!(by("file", &path(0o600)).unwrap().1, [""; 0], "{stem}");
        assert_eq!(by("file", &path(0o400)).unwrap().1, [""; 0], "{stem}");
        let [note] = &by("file", &path(0o640)).unwrap().1[..] else { panic!("{stem}: no note") };
        assert!(note.contains("is open to its group"), "{note}");
        for open in [0o604, 0o606, 0o601, 0o644] {
            let mistake = by("file", &path(open)).unwrap_err();
            assert!(mistake.contains("turnkeep.toml:"), "{mistake}");
            assert!(mistake.contains(&format!("\"{stem}_file\" in [")), "{mistake}");
            assert!(mistake.contains("is open to everybody on this machine"), "{mistake}");
        }
        let mistake = by("env", "EMPTY").unwrap_err();
        assert!(mistake.ends_with("EMPTY is not set"), "{mistake}");
        let both = format!("{head}{stem}_env = \"THE_SECRET\"\n{stem}_file = \"f\"");
        let mistake = said(&both, &env).unwrap_err();
        assert!(mistake.contains("exclude each other"), "{mistake}");
    }
}

/// Somebody types the secret itself where its place should stand, or in a form that nothing reads.
#[test]
fn a_misplaced_secret_is_not_told() {
    let dir = tempfile::tempdir().unwrap();
    for stem in stems() {
        let head = section_of(&format!("{stem}_env"));
        for typed in [format!("{SECRET:?}"), format!("[{SECRET:?}]"), format!("{{a = {SECRET:?}}}")]
        {
            for key in ["env", "file"] {
                let mistake = said(&format!("{head}{stem}_{key} = {typed}"), &Env::default());
                assert!(mistake.unwrap_err().contains(&format!("{stem}_{key}")));
            }
        }
        let unknown = format!("{head}{} = {SECRET:?}", stem.trim_end_matches("_secret"));
        said(&unknown, &Env::default()).unwrap_err();
        let broken = file(dir.path(), &format!("{SECRET}\n{SECRET}"), 0o600);
        let broken = format!("{head}{stem}_file = {:?}", broken.display().to_string());
        let mistake = said(&broken, &Env::default()).unwrap_err();
        assert!(mistake.contains("does not hold one key on one line"), "{mistake}");
    }
}
