from __future__ import annotations

import inspect

import pytest
from botocore import exceptions as botocore

from orchestrator.errors import AccessDenied, Unavailable
from orchestrator_connectors.s3.failures import failure

PASSING = """
CapacityNotAvailableError ChecksumError ConnectTimeoutError ConnectionClosedError ConnectionError
EndpointConnectionError FlexibleChecksumError HTTPClientError IncompleteReadError MetadataRetrievalError
ProxyConnectionError ReadTimeoutError ResponseStreamingError SSLError
"""
SET_UP = """
AliasConflictParameterError ApiVersionNotFoundError AwsChunkedWrapperError BaseEndpointResolverError BotoCoreError
ConfigNotFound ConfigParseError CredentialRetrievalError DataNotFoundError EndpointProviderError
EndpointResolutionError EndpointVariantError InfiniteLoopConfigError InvalidChecksumConfigError InvalidConfigError
InvalidDNSNameError InvalidDefaultsMode InvalidEndpointConfigurationError InvalidEndpointDiscoveryConfigurationError
InvalidExpressionError InvalidHostLabelError InvalidIMDSEndpointError InvalidIMDSEndpointModeError
InvalidMaxRetryAttemptsError InvalidProxiesConfigError InvalidRegionError InvalidRetryConfigurationError
InvalidRetryModeError InvalidS3AddressingStyleError InvalidS3UsEast1RegionalEndpointConfigError
InvalidSTSRegionalEndpointsConfigError LoginAuthorizationCodeError LoginError LoginInsufficientPermissions
LoginRefreshRequired LoginTokenLoadError MD5UnavailableError MissingDependencyException MissingParametersError
NoAuthTokenError NoCredentialsError NoRegionError OperationNotPageableError PaginationError ParamValidationError
PartialCredentialsError ProfileNotFound RangeError RefreshWithMFAUnsupportedError SSOError SSOTokenLoadError
ServiceNotInRegionError StubAssertionError StubResponseError TokenRetrievalError UnStubbedResponseError
UnauthorizedSSOTokenError UnknownClientMethodError UnknownCredentialError UnknownEndpointError
UnknownEndpointResolutionBuiltInName UnknownFIPSEndpointError UnknownKeyError UnknownParameterError
UnknownRegionError UnknownServiceError UnknownServiceStyle UnknownSignatureVersionError UnknownTokenProviderError
UnseekableStreamError UnsupportedOutpostResourceError UnsupportedS3AccesspointConfigurationError
UnsupportedS3ArnError UnsupportedS3ConfigurationError UnsupportedS3ControlArnError
UnsupportedS3ControlConfigurationError UnsupportedServiceProtocolsError UnsupportedSignatureVersionError
ValidationError WaiterConfigError WaiterError
"""
BY_STATUS = "ClientError EventStreamError"
NEVER = "MissingServiceIdError UndefinedModelAttributeError"
"""Raised while the model of a service is read that botocore does not ship."""

MAPPED = dict.fromkeys(PASSING.split(), Unavailable) | dict.fromkeys(SET_UP.split(), AccessDenied)
FOUND = {
    name: kind
    for name, kind in vars(botocore).items()
    if inspect.isclass(kind) and issubclass(kind, Exception) and not issubclass(kind, Warning)
}


def test_no_exception_of_botocore_is_forgotten() -> None:
    assert set(FOUND) - set(MAPPED) - {*BY_STATUS.split(), *NEVER.split()} == set()


@pytest.mark.parametrize("name", sorted(set(FOUND) & set(MAPPED)))
def test_every_exception_of_botocore_is_told_by_what_happens_next(name: str) -> None:
    kind = FOUND[name]
    told = failure(kind.__new__(kind), "bucket 'product-files'")
    assert type(told) is MAPPED[name]
    assert told.no_effect
    assert name in str(told)
