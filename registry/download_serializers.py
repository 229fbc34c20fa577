"""What a download would do, as JSON."""

from rest_framework import serializers

from registry.download_plan import DownloadPlan, FilePlan


class DownloadQuestionSerializer(serializers.Serializer[None]):
    """`dry_run`: only say what would be done."""

    dry_run = serializers.BooleanField(default=False)


class SourceSerializer(serializers.Serializer[FilePlan]):
    """A file on one of our drives."""

    cache_path = serializers.CharField(source="cache.path")
    name = serializers.CharField()


class FilePlanSerializer(serializers.Serializer[FilePlan]):
    """One content, by one of its names. `replace`: it lies there, and is bad by the last verification: it is fetched
    again."""

    name = serializers.CharField(source="file.name")
    size_bytes = serializers.IntegerField(source="file.size_bytes")
    digest = serializers.CharField(source="file.digest")
    way = serializers.ChoiceField(["present", "link", "copy", "fetch", "replace"])
    resumed_bytes = serializers.IntegerField()
    taken_from = SourceSerializer(source="source", allow_null=True)


class DownloadPlanSerializer(serializers.Serializer[DownloadPlan]):
    """`resumed_bytes` of what is copied or fetched lie there from an earlier attempt."""

    hf_path = serializers.CharField(source="snapshot.repo_id")
    revision = serializers.CharField(source="snapshot.commit")
    cache_location = serializers.CharField(source="cache.location")
    cache_path = serializers.CharField(source="cache.path")
    size_bytes = serializers.IntegerField(source="snapshot.size_bytes")
    present_bytes = serializers.IntegerField()
    linked_bytes = serializers.IntegerField()
    copied_bytes = serializers.IntegerField()
    fetched_bytes = serializers.IntegerField()
    resumed_bytes = serializers.IntegerField()
    files = FilePlanSerializer(many=True)
