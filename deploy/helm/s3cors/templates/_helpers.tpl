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
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 }}
app.kubernetes.io/instance: {{ .Release.Name }}
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

{{- define "s3cors.bucketsConfigMapName" -}}
{{- default (printf "%s-buckets" (include "s3cors.fullname" .)) .Values.existingBucketsConfigMap -}}
{{- end -}}

{{/* "yes", or nothing. */}}
{{- define "s3cors.hasBuckets" -}}
{{- if or .Values.buckets .Values.existingBucketsConfigMap -}}yes{{- end -}}
{{- end -}}

{{/* The config: the user's, or one route for every host. A JSON string is a TOML string. */}}
{{- define "s3cors.config" -}}
{{- if .Values.config -}}
{{- .Values.config -}}
{{- else -}}
[drain]
delay_seconds = {{ .Values.drain.delaySeconds }}
deadline_seconds = {{ .Values.drain.deadlineSeconds }}

[[route]]
name = {{ include "s3cors.fullname" . | toJson }}
host = {{ .Values.hosts | toJson }}
upstream = {{ .Values.upstream | toJson }}
{{- if hasKey .Values.policies "cors.xml" }}
cors = "cors.xml"
{{- end }}
{{- if include "s3cors.hasBuckets" . }}
buckets = { directory = "../buckets", address = {{ .Values.bucketAddress | toJson }} }
{{- end }}
{{- end -}}
{{- end -}}
