# Runs one script that arrives on standard input, and prints one framed answer.
# Input: base64 of the UTF-8 JSON {"frame", "script", "parameters"}; line breaks do not count.
# Output: frame, base64 of the UTF-8 JSON {"ok", "output"} or {"ok", "error"}, frame.
# Base64 both ways, because the console's code page would mangle anything else.
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$utf8 = [System.Text.Encoding]::UTF8
$request = $utf8.GetString([System.Convert]::FromBase64String((@($input) -join ''))) | ConvertFrom-Json
$parameters = @{}
foreach ($property in $request.parameters.PSObject.Properties) {
    $parameters[$property.Name] = $property.Value
}
try {
    $output = @(& ([System.Management.Automation.ScriptBlock]::Create($request.script)) @parameters)
    if ($output.Count -ne 1) {
        throw "The script wrote $($output.Count) objects, and not one."
    }
    $answer = @{ ok = $true; output = [string]$output[0] }
}
catch {
    $answer = @{
        ok = $false
        error = @{
            message = [string]$_.Exception.Message
            type = [string]$_.Exception.GetType().FullName
            id = [string]$_.FullyQualifiedErrorId
            hresult = [long]$_.Exception.HResult
            line = [int]$_.InvocationInfo.ScriptLineNumber
        }
    }
}
$json = ConvertTo-Json -InputObject $answer -Depth 3 -Compress
[System.Console]::Out.Write($request.frame + [System.Convert]::ToBase64String($utf8.GetBytes($json)) + $request.frame)
exit (1 - [int]$answer.ok)
