//! What a code usually comes with.
//!
//! **May touch:** nothing; one table.
//!
//! **Guarantees**
//! 1. Any code has a status: one that is not listed has 400.
//!
//! Source: API page 3.2 and 3.3; for STS the vendor's page of error codes of version 2015-04-01. Where the pages give two
//! statuses or none, it is a guess.

/// Usual status and message of a code. The messages of numeric codes are ours.
pub(crate) fn usual(code: &str) -> (u16, &'static str) {
    match code {
        "Forbidden.Access" => {
            (403, "Access is forbidden. Please first activate DataWorks Enterprise Edition or Flagship Edition.")
        }
        "Forbidden.RAM" => {
            (403, "User not authorized to operate on the specified resource, or this API doesn't support RAM.")
        }
        "Throttling.Api" => (429, "The request for this resource has exceeded your available limit."),
        "Throttling.System" => (429, "The DataWorks system is busy. Try again later."),
        "Throttling.User" => (429, "Your request is too frequent. Try again later."),
        "9990020002" => (400, "Throttling.User"),
        "InternalError.System" | "InternalError.UserId.Missing" => {
            (500, "An internal system error occurred. Try again later.")
        }
        "403030" => (403, "The RAM user has no permission for this operation."),
        "500130" => (404, "The data integration job does not exist."),
        "InvalidAction.NotFound" | "InvalidApi.NotFound" => {
            (404, "Specified api is not found, please check your url and method.")
        }
        "NoSuchVersion" => (400, "Specified version is not found."),
        "InvalidAccessKeyId.NotFound" => (404, "Specified access key is not found."),
        "InvalidTimeStamp.Expired" => (400, "Specified time stamp or date value is expired."),
        "InvalidTimeStamp.Format" => (400, "Specified time stamp or date value is not well formatted."),
        "SignatureNonceUsed" => (400, "Specified signature nonce was used already."),
        "SignatureDoesNotMatch" => (400, "Specified signature is not matched with our calculation."),
        "IncompleteSignature" => (400, "The request signature does not conform to Aliyun standards."),
        "MissingSecurityToken" => (400, "SecurityToken is mandatory for this action."),
        "InvalidSecurityToken.Expired" => (400, "Specified SecurityToken is expired."),
        "InvalidSecurityToken.Malformed" => (400, "Specified SecurityToken is malformed."),
        "InvalidSecurityToken.MismatchWithAccessKey" => (400, "Specified SecurityToken mismatch with the AccessKey."),
        "AuthenticationFail.NoPermission" => (401, "There is no permission"),
        "AuthenticationFail.OIDCToken.AudienceNotMatch" => (401, "Invalid audience."),
        "AuthenticationFail.OIDCToken.Expired" => (401, "This JsonWebToken is expired."),
        "AuthenticationFail.OIDCToken.Invalid" => (401, "The Jwt content is invalid that cannot be recognized."),
        "AuthenticationFail.OIDCToken.InvalidSignature" => (401, "OIDC token validate failed: invalid signature."),
        "NoPermission" => (403, "You are not authorized to do this action. You should be authorized by RAM."),
        "EntityNotExist.Role" => (404, "The role not exists."),
        "InvalidParameter.RoleArn" => (400, "The parameter RoleArn is wrongly formed."),
        "InvalidParameter.RoleSessionName" => (400, "The parameter RoleSessionName is wrongly formed."),
        "InvalidParameter.DurationSeconds" => (400, "The Min/Max value of DurationSeconds is 15min/1hr."),
        "UnsupportedHTTPMethod" => (400, "This http method is not supported."),
        "ServiceUnavailable" => (503, "The request has failed due to a temporary failure of the server."),
        _ => (400, "The request was refused."),
    }
}
