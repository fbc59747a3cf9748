//! Path templates: what is parsed says what it was, and takes the paths that it describes.

#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use transcode::{Entry, HostPattern, PathPattern, RouterBuilder, Template};

/// A template, and behind a line feed a path.
fn template(text: &str) {
    let (template, path) = text.split_once('\n').unwrap_or((text, "/a/b/c:d"));
    let Ok(parsed) = Template::parse(template) else {
        return;
    };
    assert_eq!(parsed.text(), template);
    assert_eq!(
        Template::parse(parsed.text()).map(|again| again.to_string()),
        Ok(parsed.to_string())
    );
    let count = parsed.variables().len();
    let mut builder = RouterBuilder::new();
    let entry = Entry {
        hosts: vec![HostPattern::Any],
        path: PathPattern::Template(parsed),
        conditions: 0,
        empty_segments: false,
        value: (),
    };
    builder
        .insert(entry)
        .expect("a template has no condition to fail");
    let router = builder.build().expect("one template clashes with nothing");
    router.find("host", path, |(), found| {
        let captures = found.captures();
        assert_eq!(captures.len(), count);
        for index in 0..count {
            let range = captures.range(index).expect("a variable has a place");
            assert!(path.get(range).is_some(), "{index} is outside of {path:?}");
        }
        ControlFlow::<()>::Continue(())
    });
}

fuzz_target!(|text: &str| template(text));
