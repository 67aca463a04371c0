<#
.SYNOPSIS
Asks every place where Windows notes that it wants to be restarted.
.DESCRIPTION
Changes nothing. Files waiting to be renamed are counted, but do not make a restart pending: virus scanners
leave some for ever, and whoever restarts because of them restarts in a loop.
.OUTPUTS
One JSON object, as Test-PendingReboot.json declares it.
#>
[CmdletBinding()]
param()

$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 2.0

$windows = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion'
$control = 'HKLM:\SYSTEM\CurrentControlSet\Control'
$sources = New-Object -TypeName 'System.Collections.Generic.List[string]'

if (Test-Path -LiteralPath "$windows\Component Based Servicing\RebootPending") {
    $sources.Add('component_servicing')
}
if (Test-Path -LiteralPath "$windows\WindowsUpdate\Auto Update\RebootRequired") {
    $sources.Add('windows_update')
}

$active = (Get-ItemProperty -LiteralPath "$control\ComputerName\ActiveComputerName").ComputerName
$chosen = (Get-ItemProperty -LiteralPath "$control\ComputerName\ComputerName").ComputerName
if ($active -ne $chosen) {
    $sources.Add('computer_rename')
}

# The client of Configuration Manager is asked only where it is installed.
$manager = 'absent'
$namespace = 'root\ccm\ClientSDK'
$client = Get-CimClass -Namespace $namespace -ClassName 'CCM_ClientUtilities' -ErrorAction SilentlyContinue
if ($null -ne $client) {
    $said = Invoke-CimMethod -CimClass $client -MethodName 'DetermineIfRebootPending'
    $manager = if ($said.IsHardRebootPending) { 'hard' } elseif ($said.RebootPending) { 'soft' } else { 'no' }
    if ($manager -ne 'no') {
        $sources.Add('configuration_manager')
    }
}

# Pairs of strings: a file, and its new name, empty when it is to be deleted.
$session = Get-ItemProperty -LiteralPath "$control\Session Manager"
$renames = 0
if ($session.PSObject.Properties.Name -contains 'PendingFileRenameOperations') {
    $renames = [int][System.Math]::Ceiling(@($session.PendingFileRenameOperations).Count / 2)
}

$fact = [ordered]@{
    pending = $sources.Count -gt 0
    sources = $sources.ToArray()
    file_renames = $renames
    configuration_manager = $manager
}
ConvertTo-Json -InputObject $fact -Depth 2 -Compress
