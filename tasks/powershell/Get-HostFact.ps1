<#
.SYNOPSIS
Reads what a plan has to know of a Windows host: what it is, when it booted, how much room it has.
.DESCRIPTION
Changes nothing. Times are UTC.
.OUTPUTS
One JSON object, as Get-HostFact.json declares it.
#>
[CmdletBinding()]
param()

$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 2.0

$culture = [System.Globalization.CultureInfo]::InvariantCulture
$system = Get-CimInstance -ClassName Win32_OperatingSystem
$computer = Get-CimInstance -ClassName Win32_ComputerSystem
$drive = Get-CimInstance -ClassName Win32_LogicalDisk -Filter "DeviceID='$($system.SystemDrive)'"
$version = Get-ItemProperty -LiteralPath 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion'

$fact = [ordered]@{
    name = [string]$computer.DNSHostName
    domain = [string]$computer.Domain
    domain_role = [int]$computer.DomainRole
    caption = ([string]$system.Caption).Trim()
    version = [string]$system.Version
    build = [int]$system.BuildNumber
    revision = [int]$version.UBR
    installation = [string]$version.InstallationType
    architecture = [string]$system.OSArchitecture
    last_boot = $system.LastBootUpTime.ToUniversalTime().ToString('yyyy-MM-ddTHH:mm:ssZ', $culture)
    now = [System.DateTime]::UtcNow.ToString('yyyy-MM-ddTHH:mm:ssZ', $culture)
    system_drive = [string]$system.SystemDrive
    system_free_bytes = [long]$drive.FreeSpace
    powershell = [string]$PSVersionTable.PSVersion
}
ConvertTo-Json -InputObject $fact -Depth 2 -Compress
