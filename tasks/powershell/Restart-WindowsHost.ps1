<#
.SYNOPSIS
Restarts the host, once for the boot it was asked about.
.DESCRIPTION
The boot that is to be ended is named by its time. When the host runs another one already, the restart has
happened: nothing is done, and asking again is harmless. A restart that is under way is not scheduled twice.
Windows computes the time from its clock, which may be set meanwhile: two minutes apart is the same boot.
.PARAMETER LastBoot
When the boot that is to be ended began, UTC, as Get-HostFact reports it.
.PARAMETER Delay
Seconds until the restart, so that the answer gets out.
.PARAMETER Reason
For the event log and for people who are logged on.
.OUTPUTS
One JSON object, as Restart-WindowsHost.json declares it.
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$')]
    [string]$LastBoot,

    [ValidateRange(5, 600)]
    [int]$Delay = 10,

    [ValidatePattern('^[A-Za-z0-9 .,:_#-]{1,200}$')]
    [string]$Reason = 'Approved maintenance'
)

$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 2.0

$culture = [System.Globalization.CultureInfo]::InvariantCulture
$system = Get-CimInstance -ClassName Win32_OperatingSystem
$boot = $system.LastBootUpTime.ToUniversalTime()
$form = 'yyyy-MM-ddTHH:mm:ssZ'
$meant = [System.DateTime]::ParseExact($LastBoot, $form, $culture, 'AssumeUniversal, AdjustToUniversal')
$outcome = 'already_restarted'

if ([System.Math]::Abs(($boot - $meant).TotalSeconds) -le 120) {
    $outcome = 'not_wanted'
    if ($PSCmdlet.ShouldProcess($system.CSName, 'Restart')) {
        # What a program prints on standard error is no PowerShell error; its exit code decides.
        $ErrorActionPreference = 'Continue'
        & "$env:SystemRoot\System32\shutdown.exe" /r /t $Delay /d 'p:0:0' /c $Reason 2>&1 | Out-Null
        $ErrorActionPreference = 'Stop'
        # 1190: a shutdown is scheduled already.
        if ($LASTEXITCODE -notin 0, 1190) {
            throw "shutdown.exe ended with exit code $LASTEXITCODE."
        }
        $outcome = 'scheduled'
    }
}

$fact = [ordered]@{
    outcome = $outcome
    last_boot = $boot.ToString($form, $culture)
}
ConvertTo-Json -InputObject $fact -Depth 2 -Compress
