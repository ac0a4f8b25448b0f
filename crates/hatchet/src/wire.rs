//! The messages of Hatchet's contracts that are spoken here, with the fields that are used.
//!
//! Numbers and types are those of engine version 0.104.7. A field that is not named here is skipped
//! when it is read, and a number that an enumeration does not have stays a number: an engine that
//! says more than that one is understood.

use prost::Message;

/// A moment, as `google.protobuf.Timestamp` has it.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct GetVersionRequest {}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct GetVersionResponse {
    #[prost(string, tag = "1")]
    pub(crate) version: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct WorkerRegisterRequest {
    #[prost(string, tag = "1")]
    pub(crate) worker_name: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) actions: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) services: Vec<String>,
    #[prost(btree_map = "string, int32", tag = "9")]
    pub(crate) slot_config: std::collections::BTreeMap<String, i32>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct WorkerRegisterResponse {
    #[prost(string, tag = "1")]
    pub(crate) tenant_id: String,
    #[prost(string, tag = "2")]
    pub(crate) worker_id: String,
}

/// Names a worker: what `ListenV2` and `Unsubscribe` are asked with.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct WorkerNamed {
    #[prost(string, tag = "1")]
    pub(crate) worker_id: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct HeartbeatRequest {
    #[prost(string, tag = "1")]
    pub(crate) worker_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) heartbeat_at: Option<Timestamp>,
}

/// An answer in which nothing is of use.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Nothing {}

/// What a stream of `ListenV2` brings.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct AssignedAction {
    #[prost(string, tag = "2")]
    pub(crate) workflow_run_id: String,
    #[prost(string, tag = "4")]
    pub(crate) job_id: String,
    #[prost(string, tag = "6")]
    pub(crate) job_run_id: String,
    #[prost(string, tag = "7")]
    pub(crate) task_id: String,
    #[prost(string, tag = "8")]
    pub(crate) task_run_external_id: String,
    #[prost(string, tag = "9")]
    pub(crate) action_id: String,
    #[prost(int32, tag = "10")]
    pub(crate) action_type: i32,
    #[prost(string, tag = "11")]
    pub(crate) action_payload: String,
    #[prost(int32, tag = "13")]
    pub(crate) retry_count: i32,
    #[prost(string, optional, tag = "14")]
    pub(crate) additional_metadata: Option<String>,
}

/// A step is to be started.
pub(crate) const START_STEP_RUN: i32 = 0;
/// A step is to be ended.
pub(crate) const CANCEL_STEP_RUN: i32 = 1;

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StepActionEvent {
    #[prost(string, tag = "1")]
    pub(crate) worker_id: String,
    #[prost(string, tag = "2")]
    pub(crate) job_id: String,
    #[prost(string, tag = "3")]
    pub(crate) job_run_id: String,
    #[prost(string, tag = "4")]
    pub(crate) task_id: String,
    #[prost(string, tag = "5")]
    pub(crate) task_run_external_id: String,
    #[prost(string, tag = "6")]
    pub(crate) action_id: String,
    #[prost(message, optional, tag = "7")]
    pub(crate) event_timestamp: Option<Timestamp>,
    #[prost(int32, tag = "8")]
    pub(crate) event_type: i32,
    #[prost(string, tag = "9")]
    pub(crate) event_payload: String,
    #[prost(int32, optional, tag = "10")]
    pub(crate) retry_count: Option<i32>,
    #[prost(bool, optional, tag = "11")]
    pub(crate) should_not_retry: Option<bool>,
}

pub(crate) const STEP_STARTED: i32 = 1;
pub(crate) const STEP_COMPLETED: i32 = 2;
pub(crate) const STEP_FAILED: i32 = 3;
pub(crate) const STEP_CANCELLED: i32 = 5;

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct RefreshTimeoutRequest {
    #[prost(string, tag = "1")]
    pub(crate) task_run_external_id: String,
    #[prost(string, tag = "2")]
    pub(crate) increment_timeout_by: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct TriggerWorkflowRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) input: String,
    #[prost(string, optional, tag = "7")]
    pub(crate) additional_metadata: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct TriggerWorkflowResponse {
    #[prost(string, tag = "1")]
    pub(crate) workflow_run_id: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CancelTasksRequest {
    #[prost(string, repeated, tag = "1")]
    pub(crate) external_ids: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CancelTasksResponse {
    #[prost(string, repeated, tag = "1")]
    pub(crate) cancelled_tasks: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CreateWorkflowVersionRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) description: String,
    #[prost(string, tag = "3")]
    pub(crate) version: String,
    #[prost(message, repeated, tag = "6")]
    pub(crate) tasks: Vec<CreateTaskOpts>,
    #[prost(int32, optional, tag = "10")]
    pub(crate) sticky: Option<i32>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) concurrency_arr: Vec<Concurrency>,
    #[prost(message, optional, tag = "15")]
    pub(crate) idempotency: Option<IdempotencyConfig>,
}

/// All steps of a run on one worker, as long as it is there.
pub(crate) const STICKY_SOFT: i32 = 0;

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CreateTaskOpts {
    #[prost(string, tag = "1")]
    pub(crate) readable_id: String,
    #[prost(string, tag = "2")]
    pub(crate) action: String,
    #[prost(string, tag = "3")]
    pub(crate) timeout: String,
    #[prost(string, tag = "4")]
    pub(crate) inputs: String,
    #[prost(string, repeated, tag = "5")]
    pub(crate) parents: Vec<String>,
    #[prost(int32, tag = "6")]
    pub(crate) retries: i32,
    #[prost(string, optional, tag = "13")]
    pub(crate) schedule_timeout: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Concurrency {
    #[prost(string, tag = "1")]
    pub(crate) expression: String,
    #[prost(int32, optional, tag = "2")]
    pub(crate) max_runs: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) limit_strategy: Option<i32>,
}

/// One waits for the other. Without it the engine takes `CANCEL_IN_PROGRESS`.
pub(crate) const GROUP_ROUND_ROBIN: i32 = 3;

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct IdempotencyConfig {
    #[prost(string, tag = "1")]
    pub(crate) expression: String,
    #[prost(int64, tag = "2")]
    pub(crate) ttl_ms: i64,
    #[prost(int32, optional, tag = "3")]
    pub(crate) method: Option<i32>,
}

/// A key holds for its time, whatever becomes of the run.
pub(crate) const IDEMPOTENCY_TTL: i32 = 0;

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CreateWorkflowVersionResponse {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

/// `google.rpc.Status`, which stands in an error's details.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct RichStatus {
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Detail {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct IdempotencyCollisionError {
    #[prost(string, tag = "1")]
    pub(crate) existing_run_external_id: String,
}
