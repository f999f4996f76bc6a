"""`policies`: what a request may become before it is raced."""

from __future__ import annotations

from pydantic import Field

from relay.config.cascades import CascadeConfig
from relay.config.experiments import ExperimentConfig, ShadowConfig
from relay.config.model import Model
from relay.config.panels import PanelConfig
from relay.config.rules import RuleConfig


class PoliciesConfig(Model):
    """Names of cascades and panels are asked for as aliases are, and are none of theirs."""

    rules: tuple[RuleConfig, ...] = Field((), description="first match wins")
    cascades: dict[str, CascadeConfig] = Field(default_factory=dict)
    panels: dict[str, PanelConfig] = Field(default_factory=dict)
    experiments: dict[str, ExperimentConfig] = Field(default_factory=dict)
    shadows: dict[str, ShadowConfig] = Field(default_factory=dict)
