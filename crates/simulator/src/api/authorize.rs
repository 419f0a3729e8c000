//! The page on which an owner decides about a device login. The real one is behind the site's own login; this one asks
//! which account agrees, and can end the code before its time.

use http::Method;

use crate::answers::Answer;
use crate::world::{Call, World};

/// The path of the page, which device logins name as their `verification_uri`.
pub(crate) const PATH: &str = "/authorize";

/// Shows the logins that wait, the one of `user_code` first, or takes the decision of its form.
pub(crate) fn answer(world: &World, call: &Call) -> Answer {
    if call.method == Method::POST {
        return decided(world, call);
    }
    let named = call.query("user_code").filter(|code| world.oauth.user_codes().contains(code));
    let codes = named.map_or_else(|| world.oauth.user_codes(), |code| vec![code]);
    if codes.is_empty() {
        return page("<p>No device login waits for you.</p>");
    }
    let button = |value: &str, words: &str| format!("<button name=\"decision\" value=\"{value}\">{words}</button> ");
    let forms = codes.iter().map(|code| {
        let accounts = world.oauth.accounts();
        let agree = accounts
            .iter()
            .map(|name| button(&format!("as:{}", escaped(name)), &format!("Agree as {}", escaped(name))));
        let agree: String = agree.collect();
        let code = escaped(code);
        let others = button("deny", "Deny") + &button("expire", "Let the code expire");
        format!(
            "<form method=\"post\"><p>A program asks to use your account. Its code:</p><p><strong>{code}</strong></p>\
             <input type=\"hidden\" name=\"user_code\" value=\"{code}\"><p>{agree}</p><p>{others}</p></form>"
        )
    });
    page(&forms.collect::<String>())
}

fn decided(world: &World, call: &Call) -> Answer {
    let field = |name: &str| call.form(name).unwrap_or_default();
    let (code, decision) = (field("user_code"), field("decision"));
    let is_done = match decision.strip_prefix("as:") {
        Some(account) => world.oauth.decide(&code, Some(account)),
        None if decision == "deny" => world.oauth.decide(&code, None),
        None => world.oauth.expire_code(&code),
    };
    let words = match (is_done, &*decision) {
        (false, _) => "This code is not known, or not any more.",
        (true, "deny") => "You said no.",
        (true, "expire") => "The code has expired.",
        (true, _) => "You agreed. You can close this page.",
    };
    page(&format!("<p>{words}</p>"))
}

fn page(body: &str) -> Answer {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Simulated login</title><style>body{{font:16px/1.6 system-ui;max-width:32rem;margin:4rem auto;padding:0 1rem}}\
         button{{font:inherit;padding:.4rem .8rem}}</style><h1>Simulated login</h1>{body}</html>"
    );
    Answer::text("text/html; charset=utf-8", &html)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
