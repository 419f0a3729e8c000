//! From a request to its answer: prepares the request for its upstream, then asks.

use std::sync::Arc;

use uuid::Uuid;

use crate::base::live::Live;
use crate::chat::error::{RequestError, RequestErrorKind};
use crate::chat::job::{ChatRequest, MediaJob, Notes, Question};
use crate::chat::reply::{Ending, ReplySink};
use crate::chat::resolve::Rules;
use crate::chat::stages::StagePlan;
use crate::gateway::answer::context::RequestContext;
use crate::gateway::answer::error::ChatError;
use crate::gateway::answer::relay::{RelayGateway, RelayJob};
use crate::gateway::answer::settings::AnswerSettings;
use crate::gateway::answer::tools::sets::ToolSets;
use crate::gateway::answer::turn::Turn;
use crate::gateway::answer::web::WebGateway;
use crate::gateway::attachments::Attachments;
use crate::gateway::catalogue::Models;
use crate::gateway::route::Route;
use crate::upstream::openai::encode::prompt_tokens;
use crate::upstream::web::request::WebRequest;
use crate::upstream::web::request::tools::WebTools;

/// Prepares requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Answers {
    web: WebGateway,
    models: Models,
    attachments: Attachments,
    settings: Live<AnswerSettings>,
    tool_sets: ToolSets,
}

/// A request that is ready to be asked, with the upstream that it goes to.
#[derive(Clone)]
pub(crate) struct Prepared {
    /// The model as the caller named it; answers carry this name.
    pub model: String,
    /// Notes for the caller about how the request was understood.
    pub notes: Notes,
    /// Whether the upstream speaks the caller's dialect and gets the caller's own body.
    pub is_verbatim: bool,
    upstream: PreparedFor,
}

#[derive(Clone)]
enum PreparedFor {
    Web(WebGateway, Box<WebRequest>, StagePlan),
    Relay(RelayGateway, Box<RelayJob>),
}

impl Answers {
    /// Prepares requests for these parts.
    #[must_use]
    pub(crate) fn new(
        web: WebGateway,
        models: Models,
        attachments: Attachments,
        settings: Live<AnswerSettings>,
    ) -> Self {
        Self { web, models, attachments, settings, tool_sets: ToolSets::default() }
    }

    /// Settings of answers that begin now.
    #[must_use]
    pub(crate) fn settings(&self) -> Arc<AnswerSettings> {
        self.settings.now()
    }

    /// Prepares a request for the upstream that its model's name leads to.
    ///
    /// # Errors
    /// [`RequestError`]: the request is wrong, a file that it names cannot be fetched, or another model would have to
    /// answer that `may_use` does not allow.
    pub(crate) async fn prepare(
        &self,
        settings: &AnswerSettings,
        request: ChatRequest,
        route: Route,
        may_use: impl Fn(&str) -> bool,
    ) -> Result<Prepared, RequestError> {
        match route {
            Route::Web => {
                let id_seed = Uuid::new_v4().simple().to_string();
                let (request, mut stages) = {
                    let catalogue = self.models.current().await;
                    let rules = settings.rules(&catalogue);
                    let job = request.resolve(&rules)?;
                    let mut stages = StagePlan::of_job(&job, &id_seed, |tools| self.tool_sets.get(tools))?;
                    if settings.web_tools == WebTools::Off {
                        stages.tools = None;
                    }
                    (WebRequest::plan(job, &rules, settings.web_tools)?, stages)
                };
                if let Some(fallback) = request.notes.fallback_model.as_deref().filter(|model| !may_use(model)) {
                    return Err(fallback_not_allowed(&request.model, fallback));
                }
                stages.prompt_tokens = request.prompt_tokens();
                self.for_web(request, stages).await
            }
            Route::Relay(gateway, upstream_model) => {
                let is_verbatim = matches!(request.question, Question::Verbatim(_));
                let job = request.relayed(upstream_model);
                let prompt_tokens = prompt_tokens(&job.question);
                let mut stages = if is_verbatim {
                    StagePlan::untouched(prompt_tokens)
                } else {
                    StagePlan::of(&job.wishes, prompt_tokens)
                };
                // These upstreams apply stop sequences and limits themselves.
                (stages.stop, stages.tokens_max) = (Vec::new(), None);
                stages.reasoning_format = job.wishes.reasoning_format.unwrap_or(settings.reasoning_format);
                Ok(Prepared {
                    model: job.model.clone(),
                    notes: Notes { ignored: job.ignored.clone(), ..Notes::default() },
                    is_verbatim,
                    upstream: PreparedFor::Relay(gateway, Box::new(RelayJob { job, stages })),
                })
            }
        }
    }

    /// An estimate of the tokens of the prompt that a request would send. Nothing is fetched or sent.
    ///
    /// # Errors
    /// [`RequestError`]: the request is wrong.
    pub(crate) async fn count(
        &self,
        settings: &AnswerSettings,
        request: ChatRequest,
        route: &Route,
    ) -> Result<u64, RequestError> {
        match route {
            Route::Web => {
                let catalogue = self.models.current().await;
                let rules = settings.rules(&catalogue);
                let request = WebRequest::plan(request.resolve(&rules)?, &rules, settings.web_tools)?;
                Ok(request.prompt_tokens())
            }
            Route::Relay(..) => Ok(prompt_tokens(&request.question)),
        }
    }

    /// Prepares a picture. `resolve` joins the caller's request with the catalogue.
    ///
    /// # Errors
    /// [`RequestError`]: the request is wrong, or a file that it names cannot be fetched.
    pub(crate) async fn prepare_media(
        &self,
        settings: &AnswerSettings,
        resolve: impl FnOnce(&Rules<'_>) -> Result<MediaJob, RequestError>,
    ) -> Result<Prepared, RequestError> {
        let request = self.media_request(settings, resolve).await?;
        let stages = StagePlan::untouched(request.prompt_tokens());
        self.for_web(request, stages).await
    }

    /// Makes the web chat's request for a picture or a video, its files not fetched yet.
    ///
    /// # Errors
    /// [`RequestError`]: the request is wrong.
    pub(crate) async fn media_request(
        &self,
        settings: &AnswerSettings,
        resolve: impl FnOnce(&Rules<'_>) -> Result<MediaJob, RequestError>,
    ) -> Result<WebRequest, RequestError> {
        let catalogue = self.models.current().await;
        WebRequest::media(resolve(&settings.rules(&catalogue))?)
    }

    async fn for_web(&self, mut request: WebRequest, stages: StagePlan) -> Result<Prepared, RequestError> {
        request.files = self.attachments.gather(std::mem::take(&mut request.files)).await?;
        Ok(Prepared {
            model: request.model.clone(),
            notes: request.notes.clone(),
            is_verbatim: false,
            upstream: PreparedFor::Web(self.web.clone(), Box::new(request), stages),
        })
    }
}

/// The model does not take the files, and the one that would answer in its place is not for the caller.
fn fallback_not_allowed(model: &str, fallback: &str) -> RequestError {
    let message = format!(
        "The model '{model}' does not take the files of this request, and your key may not use the model '{fallback}', which \
         would answer in its place. Choose a model that takes them."
    );
    RequestError::new(RequestErrorKind::UnsupportedValue, "model", message)
}

impl Prepared {
    /// An estimate of the prompt's tokens, before the upstream has counted them.
    #[must_use]
    pub(crate) fn prompt_tokens(&self) -> u64 {
        match &self.upstream {
            PreparedFor::Web(_, _, stages) => stages.prompt_tokens,
            PreparedFor::Relay(_, job) => job.stages.prompt_tokens,
        }
    }

    /// Begins a streamed answer: returns when its first content has gone to `sink`.
    ///
    /// # Errors
    /// [`ChatError`]: no content went out, and `sink` is as at the beginning.
    pub(crate) async fn open(
        &self,
        context: &RequestContext,
        sink: &mut (impl ReplySink + Send),
    ) -> Result<Box<Turn>, ChatError> {
        context.trace.understood(&self.notes);
        match &self.upstream {
            PreparedFor::Web(gateway, request, stages) => gateway.open((request, stages), context, sink).await,
            PreparedFor::Relay(gateway, job) => gateway.open(job, true, context, sink).await,
        }
    }

    /// Answers as a whole: everything has gone to `sink` when this returns.
    ///
    /// # Errors
    /// [`ChatError`].
    pub(crate) async fn complete(
        &self,
        context: &RequestContext,
        sink: &mut (impl ReplySink + Send),
    ) -> Result<(Box<Turn>, Ending), ChatError> {
        context.trace.understood(&self.notes);
        match &self.upstream {
            PreparedFor::Web(gateway, request, stages) => gateway.complete((request, stages), context, sink).await,
            PreparedFor::Relay(gateway, job) => gateway.complete(job, context, sink).await,
        }
    }
}
