"""The configuration: one file, overridden by secrets and by the environment, checked before anything starts."""

from __future__ import annotations

from orchestrator.settings.loading import load_settings
from orchestrator.settings.model import (
    HOST,
    AlarmSettings,
    AnswerSettings,
    LimitSettings,
    MailboxSettings,
    PluginSettings,
    PrefectSettings,
    ProcessSettings,
    RetentionSettings,
    ScheduleSettings,
    ServiceSettings,
    Settings,
    StoreSettings,
    WorkerSettings,
)
from orchestrator.settings.places import variable
from orchestrator.settings.problems import Problem, configuration_error, problems_in
from orchestrator.settings.section import secrets_in
from orchestrator.settings.webhooks import WEBHOOK, Constant, GatewaySettings, WebhookSettings

__all__ = [
    "HOST",
    "WEBHOOK",
    "AlarmSettings",
    "AnswerSettings",
    "Constant",
    "GatewaySettings",
    "LimitSettings",
    "MailboxSettings",
    "PluginSettings",
    "PrefectSettings",
    "Problem",
    "ProcessSettings",
    "RetentionSettings",
    "ScheduleSettings",
    "ServiceSettings",
    "Settings",
    "StoreSettings",
    "WebhookSettings",
    "WorkerSettings",
    "configuration_error",
    "load_settings",
    "problems_in",
    "secrets_in",
    "variable",
]
