//! Every key of every section, and whether this version has what it is for. It is the one list that readers,
//! refusals, suggestions and the reference in `docs/configuration.md` (checked by a test) go by.
//!
//! To bring a feature: turn its key from [`Support::Later`] to [`Support::Now`] and read it in its section.

/// The keys of one kind of map.
#[derive(Debug)]
pub(crate) struct Section {
    /// As in problems, with `[]` for the items of a list and `<name>` for names: `clusters[].limits`.
    pub(crate) path: &'static str,
    pub(crate) keys: &'static [Key],
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) support: Support,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    /// It works.
    Now,
    /// It is part of the format, but this version does not have it.
    Later,
}

const fn now(name: &'static str) -> Key {
    Key {
        name,
        support: Support::Now,
    }
}

const fn later(name: &'static str) -> Key {
    Key {
        name,
        support: Support::Later,
    }
}

impl Section {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// What may be written here.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.keys
            .iter()
            .filter(|key| key.support == Support::Now)
            .map(|key| key.name)
    }
}

macro_rules! sections {
    ($($name:ident $path:literal [$($key:expr),* $(,)?];)*) => {
        $(pub(crate) static $name: Section = Section { path: $path, keys: &[$($key),*] };)*

        /// All sections, in the order of the reference.
        #[cfg(test)]
        pub(crate) static SECTIONS: &[&Section] = &[$(&$name),*];
    };
}

sections! {
    ROOT "" [
        now("listeners"), now("admin"), now("threads"), now("descriptors"), now("breaking_changes"),
        now("clusters"), now("routes"), now("profiles"), now("overload"), now("consul"), now("log"), now("data"),
        now("drain_timeout"), now("locality"), now("services"),
    ];
    LISTENER "listeners[]" [now("address"), now("protocols"), now("limits"), later("tls")];
    LISTENER_LIMITS "listeners[].limits" [
        now("header_timeout"), now("body_timeout"), now("write_timeout"), now("idle_timeout"), now("max_header_bytes"),
        now("max_headers"), now("max_uri"), now("max_body"), now("max_connections"), now("max_streams"),
    ];
    ADMIN "admin" [now("address"), now("openapi")];
    DESCRIPTOR "descriptors[]" [now("file"), now("reflection"), now("kv"), now("service_config"), now("interval")];
    CLUSTER "clusters[]" [
        now("name"), now("protocol"), now("endpoints"), now("load_balancing"), now("connect_timeout"),
        now("limits"), now("panic_threshold"), now("retry_budget"), now("breaker"), now("outlier_detection"),
        now("adaptive_concurrency"), now("health_check"), now("slow_start"), now("compression"),
    ];
    ENDPOINTS "clusters[].endpoints" [now("static"), now("consul"), now("dns")];
    ENDPOINT "clusters[].endpoints.static[]" [
        now("address"), now("weight"), now("node"), now("zone"), now("tags"), now("metadata"), now("priority"),
    ];
    CONSUL_ENDPOINTS "clusters[].endpoints.consul" [
        now("service"), now("tags"), now("datacenter"), now("datacenters"), now("query"), now("interval"),
        now("node_meta"), now("filter"), now("namespace"), now("partition"), now("warning"), now("max_stale"),
        now("config_entries"),
    ];
    DNS_ENDPOINTS "clusters[].endpoints.dns" [
        now("name"), now("type"), now("resolvers"), now("min_ttl"), now("max_ttl"),
    ];
    LOAD_BALANCING "clusters[].load_balancing" [
        now("policy"), now("locality"), now("bounded_load"), now("ring_points"), now("table_size"), now("connections"),
    ];
    CONNECTIONS "clusters[].load_balancing.connections" [now("warm"), now("max_endpoints")];
    CLUSTER_LIMITS "clusters[].limits" [
        now("connections"), now("pending"), now("requests"), now("retries"), now("per_endpoint"),
    ];
    PER_ENDPOINT "clusters[].limits.per_endpoint" [now("connections"), now("requests")];
    RETRY_BUDGET "clusters[].retry_budget" [now("ratio"), now("min_per_second")];
    BREAKER "clusters[].breaker" [
        now("window"), now("min_requests"), now("failure_ratio"), now("slow_call"), now("slow_ratio"), now("hold"),
        now("max_hold"), now("probes"),
    ];
    OUTLIER_DETECTION "clusters[].outlier_detection" [
        now("consecutive_failures"), now("success_rate"), now("latency"), now("interval"), now("base_ejection"),
        now("max_ejection"), now("max_ejected"),
    ];
    ADAPTIVE_CONCURRENCY "clusters[].adaptive_concurrency" [now("enabled"), now("min"), now("max")];
    HEALTH_CHECK "clusters[].health_check" [
        now("protocol"), now("service"), now("path"), now("host"), now("statuses"), now("interval"), now("timeout"),
        now("healthy"), now("unhealthy"),
    ];
    ROUTE "routes[]" [
        now("name"), now("match"), now("transcode"), now("to"), now("weighted"), now("redirect"), now("timeout"),
        now("retry"), now("hedge"), now("hash_on"), now("subset"), now("subset_fallback"), now("rate_limit"), now("canary"), now("mirror"), now("fault"),
        now("fallback"), now("rewrite"), now("request_headers"), now("response_headers"), now("priority"),
        now("idle_timeout"), now("compression"), now("cors"),
    ];
    MATCH "routes[].match" [
        now("path"), now("path_prefix"), now("path_regex"), now("methods"), now("hosts"), now("headers"),
        now("query"),
    ];
    FIELD "routes[].match.headers.<name>" [
        now("exact"), now("prefix"), now("suffix"), now("contains"), now("regex"), now("present"),
    ];
    TRANSCODE "routes[].transcode" [
        now("services"), now("profile"), now("int64"), now("enums"), now("names"), now("defaults"),
        now("unknown_fields"), now("stream"), now("max_body"), now("unannotated"), now("trailing_slash"),
        now("request_metadata"),
        now("response_metadata"), now("compression"),
    ];
    WEIGHTED "routes[].weighted[]" [now("cluster"), now("weight")];
    REDIRECT "routes[].redirect" [now("status"), now("scheme"), now("host"), now("path"), now("path_prefix")];
    RETRY "routes[].retry" [
        now("attempts"), now("on"), now("per_try_timeout"), now("backoff"), now("dedupe"), now("unsafe"),
    ];
    BACKOFF "routes[].retry.backoff" [now("base"), now("max")];
    HEDGE "routes[].hedge" [now("after"), now("max")];
    HASH_ON "routes[].hash_on" [now("header"), now("cookie"), now("query"), now("path")];
    RATE_LIMIT "routes[].rate_limit" [
        now("requests"), now("per"), now("burst"), now("key"), now("store"), now("when_away"),
    ];
    CANARY "routes[].canary" [
        now("cluster"), now("share"), now("header"), now("cookie"), now("max_error_ratio_over"), now("max_p99_over"),
        now("min_requests"),
    ];
    MIRROR "routes[].mirror" [now("cluster"), now("share"), now("compare"), now("ignore"), now("unsafe")];
    FAULT "routes[].fault" [now("delay"), now("abort"), now("header")];
    DELAY "routes[].fault.delay" [now("duration"), now("share")];
    ABORT "routes[].fault.abort" [now("status"), now("share")];
    REWRITE "routes[].rewrite" [now("path_prefix"), now("host")];
    HEADER_EDITS "routes[].request_headers" [now("set"), now("add"), now("remove")];
    CORS "routes[].cors" [
        now("origins"), now("headers"), now("expose"), now("credentials"), now("max_age"),
    ];
    OVERLOAD "overload" [now("memory"), now("loop_lag"), now("connections")];
    LOCALITY "locality" [now("node"), now("zone")];
    SERVICES "services" [now("counter"), now("analytics")];
    SERVICE "services.counter" [now("listen"), now("admin")];
    CONSUL "consul" [
        now("address"), now("token"), now("ca"), now("cert"), now("key"), now("server_name"), now("kv"),
        now("advertise"), now("tags"), now("weight"),
    ];
}

/// A word that a key takes; `None`: the format has it, but this version does not.
pub(crate) type Choices<T> = &'static [(&'static str, Option<T>)];

#[cfg(test)]
mod tests;
