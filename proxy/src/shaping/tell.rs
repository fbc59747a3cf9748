//! What a route changes and harms, in words: a line each for `explain`. Values of headers are not told: they may
//! be credentials.

use mesh_config::model::{Action, Cors, Fault, HeaderEdits, Origin, Route};

/// Words and their lines, those of policies that are off left out.
pub(crate) fn tell(route: &Route) -> Vec<(&'static str, String)> {
    let redirect = match &route.action {
        Action::Redirect(redirect) => {
            let parts = [
                ("scheme", &redirect.scheme),
                ("host", &redirect.host),
                ("path", &redirect.path),
                ("path prefix", &redirect.path_prefix),
            ];
            Some(format!("{} with {}", redirect.status, given(parts)))
        }
        Action::Transcode(_) | Action::PassThrough => None,
    };
    let rewrite = route.rewrite.as_ref().map(|rewrite| {
        let parts = [
            ("path prefix", &rewrite.path_prefix),
            ("host", &rewrite.host),
        ];
        format!("for HTTP clusters: {}", given(parts))
    });
    let lines = [
        ("redirect", redirect),
        ("rewrite", rewrite),
        ("request", edits(&route.request_headers)),
        ("response", edits(&route.response_headers)),
        ("browsers", route.cors.as_deref().map(cors)),
        (
            "compress",
            route.compression.map(|on| match on {
                true => "answers, for clients that want that".to_owned(),
                false => "nothing".to_owned(),
            }),
        ),
        ("fault", route.fault.as_ref().map(fault)),
    ];
    let on = |(word, line): (_, Option<String>)| Some((word, line?));
    lines.into_iter().filter_map(on).collect()
}

fn cors(cors: &Cors) -> String {
    let origins: Vec<String> = cors.origins.iter().map(Origin::to_string).collect();
    let credentials = match cors.credentials {
        true => ", with credentials",
        false => "",
    };
    format!("scripts of {}{credentials}", origins.join(", "))
}

fn given<const N: usize>(parts: [(&str, &Option<String>); N]) -> String {
    let given = parts.into_iter().filter_map(|(word, part)| {
        let part = part.as_deref()?;
        Some(format!("{word} `{part}`"))
    });
    given.collect::<Vec<_>>().join(", ")
}

fn edits(edits: &HeaderEdits) -> Option<String> {
    let names = |lines: &[(String, String)]| -> Vec<String> {
        lines.iter().map(|(name, _)| name.clone()).collect()
    };
    let all = [
        ("removes", edits.remove.clone()),
        ("sets", names(&edits.set)),
        ("adds", names(&edits.add)),
    ];
    let told: Vec<_> = all
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(verb, names)| format!("{verb} {}", names.join(", ")))
        .collect();
    (!told.is_empty()).then(|| format!("headers: {}", told.join("; ")))
}

fn fault(fault: &Fault) -> String {
    let delay = fault
        .delay
        .map(|delay| format!("{} wait {}", delay.share, delay.duration));
    let abort = fault
        .abort
        .map(|abort| format!("{} are answered {}", abort.share, abort.status));
    let who = match &fault.header {
        Some(name) => format!("requests with `{name}`"),
        None => "requests".to_owned(),
    };
    let harm: Vec<_> = delay.into_iter().chain(abort).collect();
    format!("of the {who}, {}", harm.join(", "))
}
