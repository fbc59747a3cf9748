//! The rows of a route that transcodes: one for each rule of its services.

use mesh_config::model::{self, TrailingSlash};
use transcode::{Binding, CompileError, Idempotency, PathPattern, Request, Template};

use super::compile::{Compiler, Source};
use super::plan::Planned;
use super::words::choices;
use super::{Conditions, variables};
use crate::shaping::Redirect;
use crate::stream::Form;
use crate::upstream::Method;

impl Compiler<'_> {
    pub(super) fn transcode(&mut self, source: &Source<'_>, transcode: &model::Transcode) {
        // A profile that is missing or broken has been told of already.
        let Some(profile) = self.profiles.get(transcode.profile.as_str()).cloned() else {
            return;
        };
        let services = self.known_services(source, transcode, &profile);
        if services.is_empty() {
            return;
        }
        let (places, services): (Vec<usize>, Vec<&str>) = services.into_iter().unzip();
        let request = Request {
            services: &services,
            profile: &profile,
            json: choices(transcode),
            unannotated: transcode.unannotated,
        };
        let bindings = match self.transcoder.bindings(&request) {
            Ok(bindings) => bindings,
            Err(errors) => {
                return errors
                    .into_iter()
                    .for_each(|error| self.compile_error(&source.at, &places, error));
            }
        };
        for (path, why) in variables::unknown(source.route, &bindings) {
            self.problem(format!("{}.{path}", source.at), why);
        }
        for binding in bindings {
            self.binding(source, transcode, binding);
        }
    }

    fn compile_error(&mut self, at: &str, places: &[usize], error: CompileError) {
        match error {
            CompileError::Service { index, why } => {
                let index = places.get(index).copied().unwrap_or(index);
                self.problem(format!("{at}.transcode.services[{index}]"), why)
            }
            CompileError::Profile(error) if error.path.starts_with("profiles.") => {
                self.problem(error.path, error.why)
            }
            CompileError::Profile(error) => {
                self.problem(format!("{at}.transcode.profile"), error.to_string())
            }
        }
    }

    fn binding(&mut self, source: &Source<'_>, transcode: &model::Transcode, binding: Binding) {
        let method = match Method::new(&binding.grpc_path) {
            Ok(method) => method,
            Err(error) => {
                let at = format!("{}.transcode.services", source.at);
                return self.problem(at, error.to_string());
            }
        };
        let mut conditions = Conditions::of(source.route, Some(&binding.http_method));
        let pattern = binding.template.to_string();
        conditions.connect_get = pattern == binding.grpc_path
            && binding.idempotency == Idempotency::NoSideEffects
            && !binding.client_streaming
            && !binding.server_streaming;
        let (path, empty_segments) = (
            PathPattern::Template(binding.template.clone()),
            binding.empty_segments,
        );
        let max_body = transcode.max_body.get().min(self.most_body);
        let streams = binding.client_streaming || binding.server_streaming;
        let action = match streams {
            true => Planned::Stream {
                binding: Box::new(binding),
                method,
                max_body,
                form: form(transcode.stream),
            },
            false => Planned::Transcode {
                binding: Box::new(binding),
                method,
                max_body,
            },
        };
        let row = source.planned(pattern, conditions, action);
        let slashed = row
            .action
            .binding()
            .and_then(|binding| binding.template.with_slash());
        self.insert(source, path, empty_segments, row);
        if let Some(slashed) = slashed {
            self.slashed(source, transcode.trailing_slash, slashed, empty_segments);
        }
    }

    /// What becomes of the latest row's paths with a slash at their end.
    fn slashed(
        &mut self,
        source: &Source<'_>,
        choice: TrailingSlash,
        template: Template,
        empty_segments: bool,
    ) {
        let pattern = template.to_string();
        let path = PathPattern::Template(template);
        match (choice, self.rows.last()) {
            (TrailingSlash::Strict, _) | (_, None) => {}
            (TrailingSlash::Ignore, Some(_)) => {
                self.entry(source, path, empty_segments, self.rows.len() - 1);
            }
            (TrailingSlash::Redirect, Some(row)) => {
                let conditions = row.conditions.clone();
                let action = Planned::Redirect(Redirect::without_slash());
                let row = source.planned(pattern, conditions, action);
                self.insert(source, path, empty_segments, row);
            }
        }
    }
}

fn form(stream: model::StreamForm) -> Form {
    match stream {
        model::StreamForm::Ndjson => Form::Ndjson,
        model::StreamForm::Array => Form::Array,
        model::StreamForm::Sse => Form::Sse,
    }
}
