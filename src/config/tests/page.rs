//! The values of the owner's page among the other places.

use serde_json::json;

use super::*;
use crate::config::page::changed;

fn with_page(mut sources: Sources, page: &str) -> Config {
    sources.page = Some(page.to_owned());
    load(&sources)
}

fn shown(config: &Config, name: &str) -> (Option<String>, &'static str, bool) {
    let setting = config.shown.iter().find(|setting| setting.name == name).unwrap();
    (setting.value.clone(), setting.origin, setting.changeable)
}

#[test]
fn the_page_comes_after_options_and_before_all_else() {
    let mut sources = env(&[("MAX_RETRIES", "5"), ("TRIP_AFTER", "9"), ("RATE_LIMIT_RPS", "2")]);
    sources.flags.insert("LOG_LEVEL".to_owned(), "warn".to_owned());
    let page =
        r#"{"MAX_RETRIES": 7, "LOG_LEVEL": "debug", "RATE_LIMIT_RPS": "", "MODEL_MAP": ["a=b"], "SERVER_PORT": 1}"#;
    let config = with_page(sources, page);
    assert_eq!((config.chat.retries_max, config.pool.trip_after), (7, 9));
    assert_eq!(shown(&config, "MAX_RETRIES"), (Some("7".to_owned()), "page", true));
    assert_eq!((config.log.filter.as_str(), shown(&config, "LOG_LEVEL").2), ("warn", false));
    // An empty text stands for the default, and a restart is needed for the port.
    assert_eq!((config.http.rate_limit, shown(&config, "RATE_LIMIT_RPS")), (None, (None, "page", true)));
    assert_eq!((config.chat.model_map.apply("a"), config.http.listen.port()), ("b", 8000));
    // A text that is none of ours says nothing.
    assert_eq!(with_page(env(&[]), "[").chat.retries_max, 2);
}

#[test]
fn faults_of_the_page_say_so() {
    let mut sources = env(&[]);
    sources.page = Some(r#"{"MAX_RETRIES": "many"}"#.to_owned());
    assert!(faults(&sources).contains("MAX_RETRIES (page): \"many\" must be a whole number"), "{}", faults(&sources));
}

#[test]
fn a_change_is_refused_in_plain_words_and_keeps_the_rest() {
    let change = json!({
        "MAX_RETRIES": null, "TRIP_AFTER": 6, "API_KEY": "sk-secret", "SERVER_PORT": 1, "MAX_RETRY": 1,
        "COOKIE_FILE": "x", "LOG_LEVEL": "debug", "MODEL_MAP": [["a"]],
    });
    let flags = BTreeMap::from([("LOG_LEVEL".to_owned(), "warn".to_owned())]);
    let before = r#"{"MAX_RETRIES":7,"QUEUE_MAX":3}"#;
    let (kept, faults) = changed(Some(before), change.as_object().unwrap(), &flags);
    assert_eq!(kept, r#"{"QUEUE_MAX":3,"TRIP_AFTER":6}"#);
    let text: Vec<String> = faults.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(text.join("\n"), @r#"
    API_KEY (page): is a secret, which the page neither shows nor changes; set it in .env or config.json
    SERVER_PORT (page): is in use after a restart only, so the page does not change it; set it in .env or config.json
    "MAX_RETRY" (page): is not a setting; did you mean MAX_RETRIES?
    COOKIE_FILE (page): cannot be changed on the page; set it in .env or config.json
    LOG_LEVEL (page): is given by an option of the command line, which comes first; start the server without that option
    MODEL_MAP (page): must be a text, a number, true or false, or a list or an object of those; send null to take a value back
    "#);
}
