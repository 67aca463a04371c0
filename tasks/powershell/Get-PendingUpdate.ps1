<#
.SYNOPSIS
Asks the Windows Update Agent which updates the host lacks.
.DESCRIPTION
Changes nothing on the host; the agent may ask its update server. The result code is the agent's
OperationResultCode (wuapi.h): 2 succeeded, 3 succeeded with errors, 4 failed, 5 aborted. Only 2 means that
the list is complete. An empty list with an old last_search_success is no good news: something hides updates.
.PARAMETER Kind
Software, or Driver.
.PARAMETER Optional
Look for optional updates (BrowseOnly) instead of those that are to be installed.
.OUTPUTS
One JSON object, as Get-PendingUpdate.json declares it.
#>
[CmdletBinding()]
param(
    [ValidateSet('Software', 'Driver')]
    [string]$Kind = 'Software',

    [bool]$Optional = $false
)

$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 2.0

$culture = [System.Globalization.CultureInfo]::InvariantCulture
$session = New-Object -ComObject 'Microsoft.Update.Session'
$session.ClientApplicationID = 'Lamplighter'
$searcher = $session.CreateUpdateSearcher()
$result = $searcher.Search("IsInstalled=0 and IsHidden=0 and Type='$Kind' and BrowseOnly=$([int]$Optional)")

$updates = @(foreach ($update in $result.Updates) {
    $behaviour = $update.InstallationBehavior
    [ordered]@{
        id = [string]$update.Identity.UpdateID
        revision = [int]$update.Identity.RevisionNumber
        title = ([string]$update.Title).Normalize()
        articles = @(foreach ($article in $update.KBArticleIDs) { "KB$article" })
        severity = [string]$update.MsrcSeverity
        categories = @(foreach ($category in $update.Categories) { [string]$category.CategoryID })
        downloaded = [bool]$update.IsDownloaded
        eula_accepted = [bool]$update.EulaAccepted
        asks_user = $null -ne $behaviour -and [bool]$behaviour.CanRequestUserInput
        reboot = if ($null -eq $behaviour) { 2 } else { [int]$behaviour.RebootBehavior }
        max_bytes = [long]$update.MaxDownloadSize
        supersedes = @(foreach ($older in $update.SupersededUpdateIDs) { [string]$older })
        released = $update.LastDeploymentChangeTime.ToString('yyyy-MM-dd', $culture)
    }
})
$warnings = @(foreach ($warning in $result.Warnings) {
    [ordered]@{ hresult = [long]$warning.HResult; message = ([string]$warning.Message).Normalize() }
})

# Dates of the agent are UTC, and empty when the thing never happened.
$history = (New-Object -ComObject 'Microsoft.Update.AutoUpdate').Results
$dates = foreach ($date in $history.LastSearchSuccessDate, $history.LastInstallationSuccessDate) {
    if ($date -is [System.DateTime]) { $date.ToString('yyyy-MM-ddTHH:mm:ssZ', $culture) } else { '' }
}

$key = 'HKLM:\SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate'
$policy = Get-ItemProperty -LiteralPath $key -ErrorAction SilentlyContinue
$server = ''
if ($null -ne $policy -and $policy.PSObject.Properties.Name -contains 'WUServer') {
    $server = [string]$policy.WUServer
}

$fact = [ordered]@{
    result_code = [int]$result.ResultCode
    updates = @($updates | Sort-Object -Property { $_.id })
    warnings = $warnings
    server = $server
    last_search_success = $dates[0]
    last_installation_success = $dates[1]
}
ConvertTo-Json -InputObject $fact -Depth 4 -Compress
