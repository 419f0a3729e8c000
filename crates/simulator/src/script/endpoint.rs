//! The endpoints of the simulator, as scripts and records name them.

use serde::Deserialize;

/// An endpoint that can be scripted; in JSON its name in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `GET /api/v1/auths/` of the chat host.
    Auths,
    /// `GET /api/v2/auths/` of the auth host.
    Session,
    /// `GET /api/v2/auths/refresh` of the auth host.
    Refresh,
    /// `GET /api/models` and `GET /api/v2/models/`.
    Models,
    /// `POST /api/v2/chats/new`: creates a chat.
    NewChat,
    /// `GET /api/v2/chats/`: one page of the account's chats.
    ListChats,
    /// `GET /api/v2/chats/{id}`: one chat with its messages.
    ReadChat,
    /// `DELETE /api/v2/chats/{id}`, `POST /api/v2/chats/batch_delete`, `DELETE /api/v2/chats/`.
    DeleteChat,
    /// `POST /api/v2/chat/completions`: one message to the web chat and its stream.
    Completions,
    /// `POST /api/v2/chat/completions/stop`: stops the answer that runs in a chat.
    Stop,
    /// `POST /api/v2/users/status` of the chat host.
    UserStatus,
    /// `GET /api/v2/users/user/settings` and its `update`.
    Settings,
    /// `POST /api/v2/files/getstsToken`: STS credentials for one upload.
    Sts,
    /// `POST /api/v1/files/getstsToken`, without an envelope.
    StsV1,
    /// `PUT` of an object to the object storage.
    OssPut,
    /// `GET` of the signed link to an object.
    OssGet,
    /// `POST /api/v2/files/parse`: hands an uploaded document to the parser.
    FileParse,
    /// `POST /api/v2/files/parse/status`: polls the parser.
    FileParseStatus,
    /// `GET /api/v2/task/status/{id}`: polls the making of a video.
    TaskStatus,
    /// `GET /api/v1/tasks/status/{id}`, without an envelope.
    TaskStatusV1,
    /// `GET` of a generated picture or video.
    MediaLink,
    /// `POST /api/v1/oauth2/device/code`: begins a device login.
    DeviceCode,
    /// `POST /api/v1/oauth2/token` with a device code.
    DeviceToken,
    /// `POST /api/v1/oauth2/token` with a refresh token.
    RefreshToken,
    /// `POST chat/completions` of the portal.
    PortalChat,
    /// `GET models` of the portal.
    PortalModels,
    /// `POST chat/completions` with a static key.
    KeyChat,
    /// `GET models` with a static key.
    KeyModels,
    /// `POST embeddings` with a static key.
    KeyEmbeddings,
}

impl Endpoint {
    /// Whether this is a host of its own in the real world, which must not see the credentials of the site.
    pub(crate) fn is_elsewhere(self) -> bool {
        matches!(self, Self::OssPut | Self::OssGet | Self::MediaLink)
    }

    /// Whether this is of the OAuth door of the site, which wants neither cookies nor a Bearer token.
    pub(crate) fn is_oauth(self) -> bool {
        matches!(self, Self::DeviceCode | Self::DeviceToken | Self::RefreshToken)
    }

    /// Whether this is an OpenAI-shaped endpoint of another host, with a Bearer token of its own.
    pub(crate) fn is_api(self) -> bool {
        self.is_chat() || matches!(self, Self::PortalModels | Self::KeyModels | Self::KeyEmbeddings)
    }

    /// Whether this is a completion of an OpenAI-shaped endpoint.
    pub(crate) fn is_chat(self) -> bool {
        matches!(self, Self::PortalChat | Self::KeyChat)
    }
}
