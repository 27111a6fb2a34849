{{/*
Refuses a value that is null, which Helm takes for "remove the default". Each template begins with it:
their order is Helm's.
*/}}
{{- define "s3cors.refuseNull" -}}
{{- $required := list
  "image" "image.repository" "upstream" "hosts" "bucketAddress" "forwarded" "replicas" "address"
  "drain" "drain.delaySeconds" "drain.deadlineSeconds" "ports" "ports.http" "ports.admin"
  "service" "service.type" "service.port" "service.ipFamilyPolicy" "ingress" "gateway"
  "autoscaling" "autoscaling.minReplicas" "autoscaling.maxReplicas" "autoscaling.targetCPUUtilizationPercentage"
  "podDisruptionBudget" "podDisruptionBudget.maxUnavailable" "podDisruptionBudget.unhealthyPodEvictionPolicy"
  "networkPolicy" "serviceMonitor" "serviceMonitor.interval" "podMonitor" "podMonitor.interval" "prometheusRule"
  "serviceAccount"
-}}
{{- range $required -}}
{{- $value := $.Values -}}
{{- range splitList "." . }}{{ $value = index $value . }}{{ end -}}
{{- if kindIs "invalid" $value -}}
{{- fail (printf "%s is null: leave it out to have its default" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "s3cors.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "s3cors.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "s3cors.labels" -}}
{{ include "s3cors.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: cors-proxy
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "s3cors.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "s3cors.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "s3cors.configMapName" -}}
{{- default (include "s3cors.fullname" .) .Values.existingConfigMap -}}
{{- end -}}

{{/* The chart's own ConfigMap of buckets. */}}
{{- define "s3cors.bucketsConfigMapName" -}}
{{- include "s3cors.fullname" . | trunc 55 | trimSuffix "-" -}}-buckets
{{- end -}}

{{/* All ConfigMaps of buckets, as a JSON list. */}}
{{- define "s3cors.bucketsConfigMaps" -}}
{{- $names := list -}}
{{- if .Values.buckets -}}
{{- $names = append $names (include "s3cors.bucketsConfigMapName" .) -}}
{{- end -}}
{{- with .Values.existingBucketsConfigMap -}}
{{- $names = append $names . -}}
{{- end -}}
{{- concat $names (default list .Values.extraBucketsConfigMaps) | toJson -}}
{{- end -}}

{{/* "yes", or nothing. */}}
{{- define "s3cors.hasBuckets" -}}
{{- if include "s3cors.bucketsConfigMaps" . | fromJsonArray -}}yes{{- end -}}
{{- end -}}

{{/* The user's config without its comments. */}}
{{- define "s3cors.bareConfig" -}}
{{- regexReplaceAll "(?m)#.*$" .Values.config "" -}}
{{- end -}}

{{/* "yes" if the user's config has a listener: [[listen]] or listen = […]. */}}
{{- define "s3cors.hasListener" -}}
{{- $listen := "(?m)^\\s*(\\[\\[\\s*[\"']?listen[\"']?\\s*\\]\\]|[\"']?listen[\"']?\\s*=)" -}}
{{- if regexMatch $listen (include "s3cors.bareConfig" .) -}}yes{{- end -}}
{{- end -}}

{{- define "s3cors.listener" -}}
[[listen]]
address = {{ printf "%s:%d" .Values.address (int .Values.ports.http) | toJson }}
{{- end -}}

{{/*
The config: the user's, or one route. The chart never sets S3CORS_LISTEN, which would replace every
[[listen]] with a plain one. A JSON string is a TOML string.
*/}}
{{- define "s3cors.config" -}}
{{- if .Values.config -}}
{{- .Values.config | trim }}
{{- if not (include "s3cors.hasListener" .) }}

# Added by the chart: there is no other [[listen]].
{{ include "s3cors.listener" . }}
{{- end }}
{{- else -}}
{{- with .Values.trustedProxies -}}
trusted_proxies = {{ toJson . }}

{{ end -}}
{{ include "s3cors.listener" . }}

[drain]
delay_seconds = {{ int64 .Values.drain.delaySeconds }}
deadline_seconds = {{ int64 .Values.drain.deadlineSeconds }}

[[route]]
name = {{ include "s3cors.fullname" . | toJson }}
host = {{ .Values.hosts | toJson }}
upstream = {{ .Values.upstream | toJson }}
{{- if hasKey (default dict .Values.policies) "cors.xml" }}
cors = "cors.xml"
{{- end }}
{{- if include "s3cors.hasBuckets" . }}
buckets = { directory = "../buckets", address = {{ .Values.bucketAddress | toJson }} }
{{- end }}
{{- if ne (toJson .Values.forwarded) "\"off\"" }}
forwarded = {{ .Values.forwarded | toJson }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* A number of seconds that the user's config sets, or the program's default: (list . key default). */}}
{{- define "s3cors.configSeconds" -}}
{{- $found := regexFind (printf "%s[\"']?\\s*=\\s*[0-9_]+" (index . 1)) (include "s3cors.bareConfig" (index . 0)) -}}
{{- $number := regexReplaceAll "_" (regexFind "[0-9_]+$" $found) "" -}}
{{- default (index . 2) $number -}}
{{- end -}}

{{/* How long a drain takes at most. */}}
{{- define "s3cors.drainSeconds" -}}
{{- if .Values.config -}}
{{- $delay := include "s3cors.configSeconds" (list . "delay_seconds" "0") -}}
{{- $deadline := include "s3cors.configSeconds" (list . "deadline_seconds" "30") -}}
{{- add (int64 $delay) (int64 $deadline) -}}
{{- else -}}
{{- add (int64 .Values.drain.delaySeconds) (int64 .Values.drain.deadlineSeconds) -}}
{{- end -}}
{{- end -}}

{{/* Longer than the drain, with time to spare. */}}
{{- define "s3cors.gracePeriod" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add (include "s3cors.drainSeconds" . | int64) 10 -}}
{{- else -}}
{{- int64 .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{- define "s3cors.ipFamilies" -}}
{{- if .Values.service.ipFamilyPolicy }}
ipFamilyPolicy: {{ .Values.service.ipFamilyPolicy }}
{{- else if eq .Values.address "[::]" }}
ipFamilyPolicy: PreferDualStack
{{- end }}
{{- with .Values.service.ipFamilies }}
ipFamilies:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
